"""The records of `training/`: a record that cannot be used becomes a reject with a reason, and no other record does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image, ImageFile

from atomthink_plugin.api import AtomThinkError, QuestionError
from atomthink_plugin.inference.image_input import image_faults
from atomthink_plugin.json_rows import Reject, json_rows
from atomthink_plugin.training.images import shared_image
from atomthink_plugin.training.records import (
    AnsweredQuestion,
    Chain,
    Pair,
    read_records,
    relocated,
    write_records,
    write_rejects,
)
from tests.training.damaged_files import HALF, LATIN, append, oversized

GOOD = Chain(id="good", question="How many?", images=("good.png",), steps=("Step 1: The answer is 4.",))


def test_damaged_records_are_rejected_with_line_and_reason(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "good.png")
    (tmp_path / "huge.png").write_bytes(oversized())
    file = tmp_path / "chains.jsonl"
    write_records(file, [GOOD, GOOD.model_copy(update={"id": "huge", "images": ("huge.png",)})])
    half = b'{"id": "half", "question": ' + HALF.encode() + b', "steps": ["One."]}\n'
    append(
        file,
        LATIN,
        b"\n",
        half,
        b"[" * 100_000 + b"\n",
        b'{"id": "null", "question": "?", "steps": ["a"], "answer": null}',
    )
    found = read_records(file, Chain)
    assert [chain.id for chain in found.records] == ["good", "null"]
    assert found.records[1].answer == ""
    latin, broken, deep, huge = found.rejects
    assert (latin.where, latin.record) == ("chains.jsonl:3", LATIN.decode("utf-8", "replace").strip())
    assert "can't decode byte 0xe9" in latin.reason
    assert (broken.where, broken.record["id"]) == ("chains.jsonl:5", "half")
    assert deep.where == "chains.jsonl:6"
    assert (huge.where, huge.reason[:42]) == ("chains.jsonl, id 'huge'", "image huge.png: DecompressionBombError: Im")
    assert write_rejects(tmp_path / "rejects.jsonl", found.rejects) == 4
    assert json.loads((tmp_path / "rejects.jsonl").read_text().splitlines()[1])["record"]["question"] == "?"


def test_an_image_is_checked_in_the_same_way_as_a_file_and_as_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)  # the harness sets it for all
    Image.new("LA", (4, 4)).save(tmp_path / "good.png")
    (tmp_path / "huge.png").write_bytes(oversized())
    (tmp_path / "half.png").write_bytes((tmp_path / "good.png").read_bytes()[:-20])
    files = [tmp_path / name for name in ("good.png", "huge.png", "half.png")]
    by_file, by_bytes = (
        image_faults([[(file.name, read(file))] for file in files] + [[(file.name, read(file)) for file in files]])
        for read in (Path, Path.read_bytes)
    )
    assert [fault.split(": ")[:2] for fault in by_file] == [
        [""],
        ["image huge.png", "DecompressionBombError"],
        ["image half.png", "OSError"],
        ["image huge.png", "DecompressionBombError"],
    ]
    assert by_file[3] == f"{by_file[1]}; {by_file[2]}"
    assert by_file == by_bytes
    assert shared_image(files[0]).mode == "RGB"
    assert all(image_faults([[("a", tmp_path / "none.png")], [("b", tmp_path / "a\0b.png")]]))


@pytest.mark.parametrize("name", ["file.json", "file.jsonl"])
def test_json_lists_and_json_lines_are_recognised_by_their_content(name: str, tmp_path: Path) -> None:
    file, records = tmp_path / name, [{"a": 1}, [2], {"b": "é"}]
    for text in (json.dumps(records), json.dumps(records, indent=1), "\n".join(map(json.dumps, records))):
        file.write_text(text)
        assert list(json_rows(file)) == [(f"{name}:{at}", record) for at, record in enumerate(records, start=1)]
    file.write_text("\n".join(map(json.dumps, records[1:])))
    assert [record for _, record in json_rows(file)] == records[1:]
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(records[0]).encode())
    assert [record for _, record in json_rows(file)] == records[:1]
    file.write_text('{"a": 1}\n{"torn')
    where, torn = list(json_rows(file))[1]
    assert isinstance(torn, Reject)
    assert (where, torn.where, torn.record) == (f"{name}:2", f"{name}:2", '{"torn')
    file.write_text('[{"a": 1},\n{"b"')
    with pytest.raises(AtomThinkError, match=name):
        list(json_rows(file))
    file.write_text("")
    assert not list(json_rows(file))
    with pytest.raises(AtomThinkError, match=r"none\.jsonl"):
        list(json_rows(tmp_path / "none.jsonl"))


def test_one_object_over_several_lines_is_one_record(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps({"a": 1}, indent=1))
    assert list(json_rows(tmp_path / "one.json")) == [("one.json:1", {"a": 1})]


def test_rejects_are_written_whatever_they_hold(tmp_path: Path) -> None:
    record = {"bytes": b"abc", "path": tmp_path, "several": (1, None, True, [2.5])}
    assert write_rejects(tmp_path / "rejects.jsonl", [Reject("here", "so", record)]) == 1
    written = json.loads((tmp_path / "rejects.jsonl").read_text())
    assert written == {
        "where": "here",
        "reason": "so",
        "record": {"bytes": "3 bytes", "path": str(tmp_path), "several": [1, None, True, [2.5]]},
    }


def test_every_kind_of_record_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    question = AnsweredQuestion(id="q", question="How many?", answer="4", options=("3", "4"), solution="2 + 2")
    chain = Chain(id="c", question="?", steps=("One.", "Two."), labels=(1.0, None), corrections=(None, "2."))
    pair = Pair(id="p", question="?", history=("One.",), chosen=("Two.",), rejected=("Three.", "Four."))
    for record in (question, chain, pair):
        assert write_records(tmp_path / "file.jsonl", [record]) == 1
        found = read_records(tmp_path / "file.jsonl", type(record))
        assert (found.records, found.rejects, found.folder) == ([record], [], tmp_path)
    with pytest.raises(ValueError, match="chosen"):
        Pair(id="p", question="?", chosen=("Two.",), rejected=("Two.",))


def test_a_stage_may_require_fields_limit_the_records_and_accept_no_rejects(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    rows = [{"id": name, "question": "?", "answer": answer} for name, answer in (("a", "1"), ("b", None), ("a", "2"))]
    write_records(file, rows)
    assert [record.answer for record in read_records(file, AnsweredQuestion).records] == ["1", ""]
    found = read_records(file, AnsweredQuestion, required=("answer",))
    assert [record.id for record in found.records] == ["a"]
    assert [reject.where for reject in found.rejects] == ["questions.jsonl:2", "questions.jsonl:3"]
    assert found.read == 3
    assert read_records(file, AnsweredQuestion, limit=2, strict=True).read == 2
    with pytest.raises(AtomThinkError, match=r"questions\.jsonl:3"):
        read_records(file, AnsweredQuestion, strict=True)
    with pytest.raises(AtomThinkError, match=r"questions\.jsonl:1: steps"):
        read_records(file, Chain)


def test_images_are_found_from_another_folder(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "good.png")
    out = tmp_path / "deep/er/chains.jsonl"
    moved = relocated(GOOD, tmp_path, out)
    write_records(out, [moved, moved.model_copy(update={"id": "none", "images": ("none.png",)})])
    found = read_records(out, Chain)
    assert [chain.id for chain in found.records] == ["good"]
    assert found.question(found.records[0]).images[0].size == (4, 4)
    unchecked = read_records(out, Chain, check_images=False)
    assert len(unchecked) == 2
    assert unchecked[0].images[0].size == (4, 4)
    with pytest.raises(QuestionError, match="none"):
        unchecked[1]


def test_error_kinds_and_verdicts_survive_a_file(tmp_path: Path) -> None:
    chain = Chain(
        id="a", question="?", steps=("Step 1: x = 3.", "Step 2: 3 + 3 = 7.", "Step 3: The final answer is: 7."),
        labels=(0.0, 0.0, 1.0), error_kinds=("perception", "reasoning", None), correct=False,
    )  # fmt: skip
    write_records(tmp_path / "chains.jsonl", [chain, chain.model_copy(update={"id": "b", "error_kinds": None})])
    assert read_records(tmp_path / "chains.jsonl", Chain).records[0] == chain
    assert "error_kinds" not in json.loads((tmp_path / "chains.jsonl").read_text().splitlines()[1])
    for name, value in {"few": ["perception"], "other": ["sight", None, None]}.items():
        with pytest.raises(ValueError, match="error_kinds"):
            Chain.model_validate({**chain.model_dump(), "id": name, "error_kinds": value})


def test_the_verdict_is_stated_or_compared() -> None:
    chain = Chain(id="a", question="?", steps=("Step 1: The final answer is: 1/2.",))
    verdicts = [({}, None), ({"answer": "0.5"}, True), ({"answer": "0.6"}, False), ({"correct": True}, True)]
    verdicts += [({"answer": "0.5", "correct": False}, False), ({"answer": "4", "steps": ("Step 1: 2 + 2.",)}, None)]
    for change, verdict in verdicts:
        assert chain.model_copy(update=change).is_correct() is verdict, change


def test_only_wrong_steps_have_a_kind_of_error() -> None:
    kinds = ("perception", "reasoning", "perception", "reasoning")
    chain = Chain(id="a", question="?", steps=("a", "b", "c", "d"), labels=(0.0, 1.0, None, 0.4), error_kinds=kinds)
    assert chain.wrong_kinds() == ("perception", None, None, "reasoning")
    assert chain.model_copy(update={"labels": None}).wrong_kinds() == (None,) * 4
