from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO

import filelock
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.append_log import AppendLog, DamagedLine, read_log

ARGUMENT = "`--out DIR`"
RECORDS = [{"id": 1, "text": "數 \u2028"}, {"id": 2, "text": ""}, {"id": 3, "text": "x" * 50}]


@contextmanager
def opened(file: Path) -> Iterator[AppendLog]:
    with closing(AppendLog(file, ARGUMENT)) as log:
        yield log


def records(file: Path) -> list[Mapping[str, object]]:
    with opened(file) as log:
        return [entry.record for entry in log.entries()]


def write(file: Path, *written: dict[str, object]) -> None:
    with opened(file) as log:
        for record in written:
            log.append(record)


def test_entries_come_back_with_their_place_in_a_new_folder(tmp_path: Path) -> None:
    file = tmp_path / "new" / "folder" / "log.jsonl"
    with opened(file) as log:
        places = [log.append(record, sync=True) for record in RECORDS]
        assert [log.read(*place) for place in places] == file.read_bytes().splitlines(keepends=True)
        entries = list(log.entries())
    assert [(entry.start, entry.size) for entry in entries] == places
    assert [entry.record for entry in entries] == RECORDS
    assert [entry.place for entry in entries] == ["log.jsonl:1", "log.jsonl:2", "log.jsonl:3"]


@given(cut=st.integers(1, 90))
def test_an_incomplete_last_line_loses_only_its_entry(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    file = tmp_path_factory.mktemp("log") / "log.jsonl"
    write(file, *RECORDS)
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    kept = [record for record, line in zip(RECORDS, whole.splitlines(), strict=True) if line in whole[:-cut]]
    write(file, {"id": 4})
    assert records(file) == [*kept, {"id": 4}]


def test_damaged_lines_are_reported_and_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "log.jsonl"
    damaged = [b"[" * 100_000, b"[]", b"7", b"\xff\xfe", b'{"torn', b"1" * 5_000]
    file.write_bytes(b"\n\n".join([*damaged, b'{"id": 1}']))
    assert records(file) == [{"id": 1}]
    assert len(caplog.records) == len(damaged)
    assert [(isinstance(entry, DamagedLine), entry.number) for entry in read_log(file)] == [
        *((True, 2 * index + 1) for index in range(len(damaged))),
        (False, 2 * len(damaged) + 1),
    ]


def test_opening_a_file_does_not_change_it(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("no line break")
    records(file)
    assert file.read_text() == "no line break"


def test_a_full_disk_leaves_complete_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: BinaryIO, content: bytes) -> None:
        file.write(content[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    file = tmp_path / "log.jsonl"
    with opened(file) as log:
        log.append(RECORDS[0])
        with monkeypatch.context() as patch:
            patch.setattr("atomthink_plugin.append_log.write_all", full)
            with pytest.raises(AtomThinkError) as caught:
                log.append(RECORDS[1])
        log.append(RECORDS[2])
    assert all(part in str(caught.value) for part in (str(file), ARGUMENT))
    assert records(file) == [RECORDS[0], RECORDS[2]]
    assert file.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize("blocked", ["folder", "file"])
def test_a_place_that_cannot_be_written_is_named_with_its_argument(blocked: str, tmp_path: Path) -> None:
    file = tmp_path / "folder" / "log.jsonl"
    if blocked == "folder":
        file.parent.write_text("a file")
    else:
        file.mkdir(parents=True)
    with pytest.raises(AtomThinkError) as caught:
        AppendLog(file, ARGUMENT)
    assert all(part in str(caught.value) for part in (str(file), ARGUMENT))
    if blocked == "file":  # the lock was released
        file.rmdir()
        assert records(file) == []


def test_a_second_writer_is_refused_with_the_first_ones_process(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    with opened(file) as log:
        with pytest.raises(AtomThinkError) as caught:
            AppendLog(file, ARGUMENT)
        log.append(RECORDS[0])
    assert all(part in str(caught.value) for part in (str(file), str(os.getpid()), ARGUMENT))
    assert records(file) == [RECORDS[0]]


HOLD = """
import os, sys
from pathlib import Path
from atomthink_plugin.append_log import AppendLog
log = AppendLog(Path(sys.argv[1]), "`--out`")
print("open", flush=True)
sys.stdin.readline()
"""

FORK = """
child = os.fork()
if not child:
    log.close()
    del log
    os._exit(0)
os.waitpid(child, 0)
print("forked", flush=True)
sys.stdin.readline()
"""


def test_a_killed_process_leaves_no_lock_and_a_forked_child_does_not_release_it(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    command = [sys.executable, "-c", HOLD + FORK, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        for state in (b"open\n", b"forked\n"):
            assert holder.stdout.readline() == state
            with pytest.raises(AtomThinkError) as caught:
                AppendLog(file, ARGUMENT)
            assert str(holder.pid) in str(caught.value)
            if state == b"open\n":
                holder.stdin.write(b"\n")
                holder.stdin.flush()
        holder.kill()
    assert records(file) == []


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError("no flock")])
def test_a_file_system_without_locks_is_written_with_a_warning(
    error: Exception, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(self: object) -> None:
        raise error

    monkeypatch.setattr(filelock.FileLock, "_acquire", unsupported)
    file = tmp_path / "log.jsonl"
    write(file, RECORDS[0])
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert records(file) == [RECORDS[0]]


@pytest.mark.parametrize("successor", [False, True])
def test_a_deleted_file_is_restored_after_what_another_process_wrote(successor: bool, tmp_path: Path) -> None:
    file = tmp_path / "folder" / "log.jsonl"
    with opened(file) as log:
        start, size = log.append(RECORDS[0])
        assert not log.replaced()
        file.unlink()
        other = json.dumps({"id": 9}).encode() if successor else b""  # without its line break
        if successor:
            file.write_bytes(other)
        assert log.replaced()
        shift = log.restore()
        assert json.loads(log.read(start + shift, size)) == RECORDS[0]
        log.append(RECORDS[1])
        with pytest.raises(AtomThinkError):
            AppendLog(file, ARGUMENT)
    assert records(file) == [*([{"id": 9}] if successor else []), *RECORDS[:2]]


def test_a_rewritten_file_holds_the_given_lines_and_what_follows(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    with opened(file) as log:
        places = [log.append(record) for record in RECORDS]
        log.rewrite(log.read(*place) for place in places[1:])
        start, size = log.append({"id": 4})
        assert json.loads(log.read(start, size)) == {"id": 4}
    assert records(file) == [*RECORDS[1:], {"id": 4}]
