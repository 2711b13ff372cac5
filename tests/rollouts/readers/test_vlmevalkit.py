"""Predictions of VLMEvalKit in its three kinds of files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.rollouts.candidate_verdicts import judge_candidates
from atomthink_plugin.rollouts.rollout_file import read_rollouts
from tests.rollouts.readers.record_files import base64_png, image_file, texts

COLUMNS = ["index", "question", "A", "B", "C", "answer", "category", "prediction"]


def rows(*predictions: str) -> list[list[Any]]:
    return [[at, f"Question {at}?", "red", "blue", None, "B", "colour", reply] for at, reply in enumerate(predictions)]


def xlsx(file: Path, lines: Sequence[Sequence[Any]], columns: Sequence[str] = COLUMNS) -> str:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for line in (columns, *lines):
        sheet.append(list(line))
    book.save(file)
    return str(file)


def tsv(file: Path, lines: Sequence[Sequence[Any]], columns: Sequence[str] = COLUMNS) -> str:
    with file.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out, delimiter="\t").writerows([columns, *lines])
    return str(file)


def records(file: Path, lines: Sequence[Sequence[Any]], columns: Sequence[str] = COLUMNS) -> str:
    file.write_text(json.dumps([dict(zip(columns, line, strict=True)) for line in lines]))
    return str(file)


Writer = Callable[..., str]


@pytest.mark.parametrize(("write", "ending"), [(xlsx, "xlsx"), (tsv, "tsv"), (records, "json")])
def test_several_files_are_several_candidates(tmp_path: Path, write: Writer, ending: str) -> None:
    for index in range(3):
        image_file(tmp_path / "images" / f"{index}.png")
    first = write(tmp_path / f"A_SET.{ending}", rows("B", "A", "Failed to obtain answer via API."))
    second = write(tmp_path / f"B_SET.{ending}", rows("The answer is blue.", "=B", "<think>b\n</think>C"))
    found = read_rollouts([first, second], images=tmp_path / "images")
    assert found.format == "vlmevalkit"
    assert [texts(one.candidates) for one in found.sets] == [["B", "The answer is blue."], ["A", "=B"], ["C"]]
    assert found.sets[0].choices == ("red", "blue")
    assert (found.sets[0].gold, found.sets[0].subset, found.sets[0].policy) == ("B", "colour", "A_SET, B_SET")
    assert found.sets[2].candidates[0].thought == "b"
    assert len(found.rejects) == 1
    judged = judge_candidates(found.sets).sets
    assert [candidate.correct for candidate in judged[0].candidates] == [True, True]


def test_a_full_cell_of_a_spreadsheet_is_marked_as_cut(tmp_path: Path) -> None:
    image_file(tmp_path / "0.png")
    image_file(tmp_path / "1.png")
    found = read_rollouts([xlsx(tmp_path / "A_SET.xlsx", rows("x" * 32_767, "x" * 32_766))])
    assert [one.candidates[0].cut for one in found.sets] == [True, False]
    assert found.cut == 1


def test_thinking_has_a_column_of_its_own(tmp_path: Path) -> None:
    columns = ["index", "question", "image", "answer", "choices", "prediction", "thinking"]
    line = [7, "Which?", base64_png(), "red", "['red', 'blue']", "(A)", "It looks red."]
    (one,) = read_rollouts([tsv(tmp_path / "A_MathVista_MINI.tsv", [line], columns)]).sets
    (candidate,) = one.candidates
    assert (candidate.text, candidate.thought, one.choices) == ("(A)", "It looks red.", ("red", "blue"))
    assert isinstance(one.pictures[0], bytes)
    assert judge_candidates([one]).sets[0].candidates[0].correct is True


def test_images_that_are_not_in_the_file_have_to_be_named(tmp_path: Path) -> None:
    source = tsv(tmp_path / "A_SET.tsv", rows("B", "A"))
    with pytest.raises(AtomThinkError, match="--images"):
        read_rollouts([source])
    image_file(tmp_path / "images" / "0.png")
    found = read_rollouts([source], images=tmp_path / "images")
    assert ([one.id for one in found.sets], [reject.where for reject in found.rejects]) == (["0"], ["A_SET.tsv:2"])


def test_files_of_different_benchmarks_do_not_mix(tmp_path: Path) -> None:
    image_file(tmp_path / "0.png")
    other = [[0, "Something else?", "red", "blue", None, "B", "colour", "A"]]
    found = read_rollouts([tsv(tmp_path / "A_SET.tsv", rows("B")), tsv(tmp_path / "A_OTHER.tsv", other)])
    assert [texts(one.candidates) for one in found.sets] == [["B"]]
    assert [reject.where for reject in found.rejects] == ["A_OTHER.tsv:1"]
