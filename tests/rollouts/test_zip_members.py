"""Members of zip files that are compressed with Zstandard, as Inspect writes them."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

import pytest
import zstandard

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.rollouts.rollout_file import read_rollouts
from atomthink_plugin.rollouts.zip_members import read_member

CONTENT = {"header.json": b"{}", "samples/1_epoch_1.json": b'{"id": 1}' * 500, "samples/empty": b""}


def zip_of(members: dict[str, bytes], method: int, extra: bytes = b"") -> bytes:
    """Writes a zip file by its specification, APPNOTE 4.3: local headers and contents, directory, end."""
    local, directory = b"", b""
    for name, content in members.items():
        packed = zstandard.ZstdCompressor().compress(content) if method == 93 else content
        sizes = struct.pack("<IIIHH", zlib.crc32(content), len(packed), len(content), len(name), len(extra))
        common = struct.pack("<HHHHH", 63, 0, method, 0, 0) + sizes
        start = len(local)
        local += b"PK\3\4" + common + name.encode() + extra + packed
        directory += b"PK\1\2" + struct.pack("<H", 63) + common + struct.pack("<HHHII", 0, 0, 0, 0, start)
        directory += name.encode() + extra
    end = struct.pack("<HHHHIIH", 0, 0, len(members), len(members), len(directory), len(local), 0)
    return local + directory + b"PK\5\6" + end


@pytest.mark.parametrize("method", [0, 93])
@pytest.mark.parametrize("extra", [b"", struct.pack("<HH", 0x7075, 3) + b"xyz"])
def test_every_member_is_read(tmp_path: Path, method: int, extra: bytes) -> None:
    (tmp_path / "a.eval").write_bytes(zip_of(CONTENT, method, extra))
    with zipfile.ZipFile(tmp_path / "a.eval") as archive:
        assert {one.filename: read_member(archive, one) for one in archive.infolist()} == CONTENT


def test_a_damaged_member_is_not_read(tmp_path: Path) -> None:
    whole = zip_of({"samples/1_epoch_1.json": b'{"id": "a long sample"}'}, 93)
    at = whole.index(b"long")
    (tmp_path / "a.eval").write_bytes(whole[:at] + b"lost" + whole[at + 4 :])
    with pytest.raises(AtomThinkError, match=r"a\.eval.*samples/1_epoch_1\.json"):
        read_rollouts([str(tmp_path / "a.eval")])


def test_other_compressions_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.eval").write_bytes(zip_of({"samples/1_epoch_1.json": b"{}"}, 97))
    with pytest.raises(AtomThinkError, match=r"a\.eval"):
        read_rollouts([str(tmp_path / "a.eval")])
