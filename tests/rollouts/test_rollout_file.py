"""Sources of candidates: kinds of files, detection of the format, images, and what is refused."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.rollouts.readers.formats import ROLLOUT_FORMATS
from atomthink_plugin.rollouts.readers.pictures import pictures_of
from atomthink_plugin.rollouts.readers.record_parts import split_thought, without_placeholder
from atomthink_plugin.rollouts.rollout_file import RUN, read_rollouts
from atomthink_plugin.rollouts.rollout_set import RolloutSet
from tests.rollouts.readers.record_files import all_texts, base64_png, image_file, json_list, jsonl, png


def sal(problem: str, *completions: str, **fields: Any) -> dict[str, Any]:
    return {"problem": problem, "completions": list(completions), "unique_id": problem, **fields}


def test_the_same_records_are_read_from_every_kind_of_file(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    records = [sal("1+1?", "2", "3"), sal("2+2?", "4")]
    plain = jsonl(tmp_path / "a.jsonl", *records)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(Path(plain).read_bytes()))
    (tmp_path / "folder").mkdir()
    jsonl(tmp_path / "folder" / "1.jsonl", records[0])
    json_list(tmp_path / "folder" / "2.json", records[1])
    jsonl(tmp_path / "folder" / "1.jsonl.scores.jsonl", {"key": "kept by an earlier run"})
    datasets.Dataset.from_list(records).to_parquet(str(tmp_path / "c.parquet"))
    expected = {"1+1?": ["2", "3"], "2+2?": ["4"]}
    for source in (plain, str(tmp_path / "b.jsonl.gz"), str(tmp_path / "c.parquet"), str(tmp_path / "folder")):
        found = read_rollouts([source])
        assert (found.format, found.records, all_texts(found.sets)) == ("sal", 2, expected), source


def test_a_format_can_be_forced_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "a.jsonl", {"problem": "1+1?", "texts": ["2"]})
    with pytest.raises(AtomThinkError, match="--from"):
        read_rollouts([source])
    with pytest.raises(AtomThinkError, match="completions"):
        read_rollouts([source], format="sal")
    with pytest.raises(AtomThinkError, match="lmms_eval"):
        read_rollouts([source], format="sall")


def test_every_format_is_detected_by_fields_of_its_own() -> None:
    for name, reader in ROLLOUT_FORMATS.items():
        found = next(other for other, one in ROLLOUT_FORMATS.items() if one.fields <= reader.fields)
        assert found == name
    assert RUN not in ROLLOUT_FORMATS


def test_sources_of_different_formats_are_not_joined(tmp_path: Path) -> None:
    first = jsonl(tmp_path / "a.jsonl", sal("1+1?", "2"))
    second = jsonl(tmp_path / "b.jsonl", {"prompt": "1+1?", "answers": ["2"]})
    with pytest.raises(AtomThinkError, match="sal, rlhflow"):
        read_rollouts([first, second])


class _Trap:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("opened"),))


@pytest.mark.parametrize("name", ["a.pkl", "a.pickle", "a.pt", "a.pkl.gz"])
def test_a_pickle_is_never_opened(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(pickle.dumps(_Trap()))
    with pytest.raises(AtomThinkError, match="pickle"):
        read_rollouts([str(tmp_path / name)])
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.xlsx", "a.eval", "a.csv", "missing.json"])
def test_damaged_files_are_refused_by_name(tmp_path: Path, name: str) -> None:
    if not name.startswith("missing"):
        (tmp_path / name).write_bytes(b"\x1f\x8b\x08\0 no such file \xff")
    with pytest.raises(AtomThinkError, match=name):
        read_rollouts([str(tmp_path / name)])


def test_each_question_without_its_images_is_rejected(tmp_path: Path) -> None:
    image_file(tmp_path / "there.png")
    (tmp_path / "broken.png").write_bytes(png()[:30])
    names = ["there.png", "absent.png", "broken.png", "https://example.org/1.png", ["there.png", "absent.png"], 7]
    records = [
        {"question": f"{at}?", "image_path": name, "candidates": ["a"], "true_false": [True]}
        for at, name in enumerate(names)
    ]
    found = read_rollouts([jsonl(tmp_path / "a.jsonl", *records)])
    assert [one.question for one in found.sets] == ["0?"]
    assert len(found.rejects) == 5
    assert found.records == 6


def test_a_folder_of_images_replaces_the_folder_of_the_file(tmp_path: Path) -> None:
    image_file(tmp_path / "images" / "set" / "1.png")
    image_file(tmp_path / "images" / "1.png")
    names = ["set/1.png", "/home/me/set/1.png", "/home/me/other/1.png", "other/1.png"]
    records = [
        {"question": f"{at}?", "image_path": name, "candidates": ["a"], "true_false": [True]}
        for at, name in enumerate(names)
    ]
    found = read_rollouts([jsonl(tmp_path / "a.jsonl", *records)], images=tmp_path / "images")
    shown = [
        picture.relative_to(tmp_path) for one in found.sets for picture in one.pictures if isinstance(picture, Path)
    ]
    assert [str(picture) for picture in shown] == ["images/set/1.png", "images/set/1.png", "images/1.png"]
    assert [reject.where for reject in found.rejects] == ["a.jsonl:4"]


def test_images_are_read_from_every_form() -> None:
    stored = [base64_png(), f"data:image/png;base64,{base64_png()}", png(), {"bytes": png(), "path": None}]
    folder = Path(__file__).parent
    assert all(pictures_of(one, folder) == (png(),) for one in stored)
    assert pictures_of(stored, folder) == (png(),) * 4
    assert pictures_of(f"['{base64_png()}', '{base64_png()}']", folder) == (png(),) * 2
    assert pictures_of(None, folder) == pictures_of("", folder) == pictures_of([], folder) == ()


def test_candidates_without_an_answer_are_counted(tmp_path: Path) -> None:
    texts = ["The answer is 4.", "B", "So we add both numbers and then we add them again, whatever the result may be"]
    found = read_rollouts([jsonl(tmp_path / "a.jsonl", sal("2+2?", *texts, ""))])
    assert (found.candidates, found.unanswered) == (4, 2)
    assert [one.stated_answer() for one in found.sets[0].candidates] == ["4", "B", None, None]


def test_the_right_answer_is_not_in_the_question_of_a_scorer(tmp_path: Path) -> None:
    found = read_rollouts([jsonl(tmp_path / "a.jsonl", sal("How many?", "2", answer="GOLD", solution="GOLD"))])
    assert found.sets[0].gold == "GOLD"
    assert "GOLD" not in repr(found.sets[0].engine_question())


@pytest.mark.parametrize(
    ("question", "added"),
    [
        ("Which?", True),
        ("Which one is red?", True),
        ("Which?\nA. red\nB. blue", False),
        ("Which? (A) red (B) blue", False),
        ("Which?\nred\nblue", False),
        ("Which?\nA. red", True),
    ],
)
def test_a_scorer_sees_the_options_once(question: str, added: bool) -> None:
    asked = RolloutSet("q", question, (), choices=("red", "blue")).engine_question()
    assert (asked.text == question) is not added
    assert asked.text.startswith(question)
    assert asked.text.endswith("Choices: A. red\nB. blue") is added
    assert asked.choices == ("red", "blue")


@given(st.text(alphabet="ab<think>/ \n", max_size=40))
def test_a_thought_and_its_reply_are_parts_of_the_text(text: str) -> None:
    thought, reply = split_thought(text)
    assert thought in text
    assert reply in text
    assert "</think>" not in reply
    assert (thought == "" and reply == text) or "</think>" in text


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("<image>\nHow many?", "How many?"),
        ("<image 1> How many?", "How many?"),
        ("How many in <image>?", "How many in?"),
        ("In <image1> and <image2>?", "In <image1> and <image2>?"),
        ("How many?", "How many?"),
    ],
)
def test_a_single_placeholder_is_cut(given_text: str, expected: str) -> None:
    assert without_placeholder(given_text) == expected


def test_a_file_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "a.jsonl", sal("1+1?", "2"))
    with pytest.raises(AtomThinkError, match="twice"):
        read_rollouts([source, str(tmp_path / "." / "a.jsonl")])
