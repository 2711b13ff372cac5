"""The one format of `training/`: a record that cannot be used costs itself, with its place and reason, and no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image, ImageFile

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.training.images import image_faults, shared_image
from atomthink_plugin.training.jsonl import NoJson, entries, plain
from atomthink_plugin.training.records import Chain, Reject, read_chains, write_chains, write_rejects
from tests.training.damaged import HALF, LATIN, append, oversized

GOOD = Chain(id="good", question="How many?", images=("good.png",), steps=("Step 1: The answer is 4.",))


def test_damaged_records_are_rejected_with_line_and_reason(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "good.png")
    (tmp_path / "huge.png").write_bytes(oversized())
    file = tmp_path / "chains.jsonl"
    write_chains(file, [GOOD, GOOD.model_copy(update={"id": "huge", "images": ("huge.png",)})])
    half = b'{"id": "half", "question": ' + HALF.encode() + b', "steps": ["One."]}\n'
    append(
        file,
        LATIN,
        b"\n",
        half,
        b"[" * 100_000 + b"\n",
        b'{"id": "null", "question": "?", "steps": ["a"], "answer": null}',
    )
    found = read_chains(file)
    assert [chain.id for chain in found.chains] == ["good", "null"]
    assert found.chains[1].answer == ""
    latin, broken, deep, huge = found.rejects
    assert (latin.where, latin.record) == ("chains.jsonl:3", LATIN.decode("utf-8", "replace").strip())
    assert "can't decode byte 0xe9" in latin.reason
    assert (broken.where, broken.record["id"]) == ("chains.jsonl:5", "half")
    assert deep.where == "chains.jsonl:6"
    assert (huge.where, huge.reason[:42]) == ("chains.jsonl, id 'huge'", "image huge.png: DecompressionBombError: Im")
    assert write_rejects(tmp_path / "rejects.jsonl", found.rejects) == 4
    assert json.loads((tmp_path / "rejects.jsonl").read_text().splitlines()[1])["record"]["question"] == "?"


def test_a_picture_is_judged_alike_as_a_file_and_as_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)  # the harness sets it for all
    Image.new("LA", (4, 4)).save(tmp_path / "good.png")
    (tmp_path / "huge.png").write_bytes(oversized())
    (tmp_path / "half.png").write_bytes((tmp_path / "good.png").read_bytes()[:-20])
    files = [tmp_path / name for name in ("good.png", "huge.png", "half.png")]
    by_file, by_bytes = image_faults([*files, files[1]]), image_faults(file.read_bytes() for file in files)
    assert list(by_file) == files[1:]
    assert [reason.split(":")[0] for reason in by_file.values()] == ["DecompressionBombError", "OSError"]
    assert list(by_file.values()) == list(by_bytes.values())
    assert shared_image(files[0]).mode == "RGB"
    assert list(image_faults([tmp_path / "none.png", tmp_path / "a\0b.png"])) != []


@pytest.mark.parametrize("name", ["file.json", "file.jsonl"])
def test_lists_and_lines_are_read_by_what_is_in_them(name: str, tmp_path: Path) -> None:
    file, records = tmp_path / name, [{"a": 1}, [2], {"b": "é"}]
    for text in (json.dumps(records), json.dumps(records, indent=1), "\n".join(map(json.dumps, records))):
        file.write_text(text)
        assert list(entries(file)) == [(f"{name}:{at}", record) for at, record in enumerate(records, start=1)]
    file.write_text("\n".join(map(json.dumps, records[1:])))
    assert [record for _, record in entries(file)] == records[1:]
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(records[0]).encode())
    assert [record for _, record in entries(file)] == records[:1]
    file.write_text('{"a": 1}\n{"torn')
    assert list(entries(file))[1] == (
        f"{name}:2", NoJson('{"torn', "no JSON: Unterminated string starting at: line 1 column 2 (char 1)")
    )  # fmt: skip
    file.write_text('[{"a": 1},\n{"b"')
    with pytest.raises(AtomThinkError, match=f"{name} is no JSON: "):
        list(entries(file))
    file.write_text("")
    assert not list(entries(file))
    with pytest.raises(AtomThinkError, match="cannot be read: No such file"):
        list(entries(tmp_path / "none.jsonl"))


def test_one_object_over_several_lines_is_one_record(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps({"a": 1}, indent=1))
    assert list(entries(tmp_path / "one.json")) == [("one.json:1", {"a": 1})]


def test_rejects_hold_what_json_has_no_word_for(tmp_path: Path) -> None:
    record = plain({"bytes": b"abc", "path": tmp_path, "several": (1, None, True, [2.5])})
    assert record == {"bytes": "3 bytes", "path": str(tmp_path), "several": [1, None, True, [2.5]]}
    assert write_rejects(tmp_path / "rejects.jsonl", [Reject("here", "so", record)]) == 1
