"""Samples of lmms-eval with one reply, repeats, filters and thinking."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from atomthink_plugin.rollouts.rollout_file import read_rollouts
from tests.rollouts.readers.record_files import base64_png, image_file, jsonl, texts


def sample(doc_id: int, replies: Any, **fields: Any) -> dict[str, Any]:
    return {
        "doc_id": doc_id,
        "target": "4",
        "filtered_resps": replies,
        "token_counts": [None],
        "doc_hash": "74234e98afe7498f",
        "input": f"Question {doc_id}?",
        **fields,
    }


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"filtered_resps": "a"}, ["a"]),
        ({"filtered_resps": ["a"]}, ["a"]),
        ({"filtered_resps": "a", "resps": ["b"]}, ["b"]),
        ({"filtered_resps": ["a", "b"]}, ["a", "b"]),
        ({"filtered_resps": ["4", "5"], "resps": [["It is 4"], ["It is 5"]]}, ["It is 4", "It is 5"]),
        ({"filtered_resps": "4", "resps": ["It is 4", "It is 5"]}, ["It is 4", "It is 5"]),
        ({"filtered_resps": "4", "resps": ["<think>hm</think>It is 4"]}, ["It is 4"]),
    ],
)
def test_the_replies_are_read_in_every_form_that_the_harness_writes(
    tmp_path: Path, fields: dict[str, Any], expected: list[str]
) -> None:
    source = jsonl(tmp_path / "20260101_120000_samples_sums.jsonl", sample(0, "") | fields)
    (one,) = read_rollouts([source]).sets
    assert texts(one.candidates) == expected
    assert (one.id, one.subset, one.gold, one.question) == ("sums/0", "sums", "4", "Question 0?")
    assert one.candidates[0].thought == ("hm" if "<think>" in str(fields) else "")


def test_runs_with_one_reply_each_join_and_keep_their_verdicts(tmp_path: Path) -> None:
    sources = [
        jsonl(
            tmp_path / f"2026010{run}_120000_samples_sums.jsonl",
            sample(0, reply, acc=right, token_counts=[{"output_tokens": 9}]),
            sample(0, f"{reply}, filtered", acc=1 - right),  # of a second filter
            sample(1, ["a", "b"], acc=1.0),
        )
        for run, (reply, right) in enumerate([("It is 4", 1.0), ("It is 5", 0.0)])
    ]
    first, second = read_rollouts(sources).sets
    assert texts(first.candidates) == ["It is 4", "It is 5"]
    assert [one.correct for one in first.candidates] == [True, False]
    assert [one.tokens for one in first.candidates] == [9, 9]
    assert texts(second.candidates) == ["a", "b", "a", "b"]
    assert {one.correct for one in second.candidates} == {None}  # the task judged both replies at once


def test_records_without_texts_and_failed_questions_are_counted(tmp_path: Path) -> None:
    source = jsonl(
        tmp_path / "20260101_120000_samples_sums.jsonl",
        sample(0, "It is 4"),
        sample(1, [[-3.5, False], [-1.0, True]]),
        sample(2, "", token_counts=[{"status": "failed", "error": "the image is truncated"}]),
        sample(3, "It is 4", input={"role": "user"}),
        sample(4, "It is 4", input_media=[f"data:image/png;base64,{base64_png()}"] * 4),
    )
    found = read_rollouts([source])
    assert [one.id for one in found.sets] == ["sums/0"]
    assert [reject.where.rpartition(":")[2] for reject in found.rejects] == ["2", "3", "4", "5"]
    assert "truncated" in found.rejects[1].reason


def test_images_come_from_the_samples_or_from_a_folder_by_number(tmp_path: Path) -> None:
    image_file(tmp_path / "pictures" / "1.png")
    image_file(tmp_path / "pictures" / "2_0.jpg")
    image_file(tmp_path / "pictures" / "2_1.jpg")
    source = jsonl(
        tmp_path / "20260101_120000_samples_sums.jsonl",
        sample(0, "a", input_media=[f"data:image/png;base64,{base64_png()}"]),
        sample(1, "a"),
        sample(2, "a"),
        sample(3, "a"),
    )
    found = read_rollouts([source], images=tmp_path / "pictures")
    assert [len(one.pictures) for one in found.sets] == [1, 1, 2, 0]
    assert len(found.sets[2].engine_question().messages[0].parts) == 3
    assert any("1 of 4 questions" in note for note in found.notes)


def test_samples_of_our_benchmarks_name_their_rules_and_have_the_record(tmp_path: Path) -> None:
    record = {"pid": "1", "question": "How far?", "choices": ["1", "2"], "answer": "1.2"}
    fields = {"benchmark": "mathvista", "question": record, "target": "1.2"}
    source = jsonl(tmp_path / "20260101_120000_samples_mathvista.jsonl", sample(0, ["a", "b"], **fields))
    (one,) = read_rollouts([source]).sets
    assert (one.benchmark, one.record, one.choices) == ("mathvista", record, ("1", "2"))


def test_a_score_between_right_and_wrong_is_no_verdict(tmp_path: Path) -> None:
    scores = [{"acc": 1.0}, {"acc": 0.5}, {"acc": 0.0}, {"anls": 1.0}]
    records = [sample(at, "4", **own) for at, own in enumerate(scores)]
    found = read_rollouts([jsonl(tmp_path / "20260101_120000_samples_sums.jsonl", *records)])
    assert [one.candidates[0].correct for one in found.sets] == [True, None, False, None]
