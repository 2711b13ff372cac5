"""Rollouts of VRPRM's best-of-N: the file of questions, the one of candidates, and the files of scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from atomthink_plugin.rollouts.rollout_file import read_rollouts
from tests.rollouts.readers.record_files import all_texts, image_file, jsonl, texts


def asked(index: str, **fields: Any) -> dict[str, Any]:
    return {
        "dataset": "MathVerse-VO",
        "vlmeval_dataset": "MathVerse_MINI_Vision_Only",
        "dataset_type": "VQA",
        "index": index,
        "row_pos": 0,
        "prompt": f"Solve question {index} step by step.",
        "question": f"Question {index}?",
        "answer": "4",
        "images": ["/data/LMUData/images/MathVerse/1.png"],
        "policy_model": "InternVL2_5-8B",
        **fields,
    }


def scored(rollout: str, number: int, scores: list[float] | None, error: str = "") -> dict[str, Any]:
    mean = sum(scores) / len(scores) if scores else float("-inf")
    return {
        "candidate_idx": number,
        "rollout": rollout,
        "score": mean,
        "step_scores": scores,
        "error": error,
        "reward_mode": "visualprm_soft_v1",
    }


def test_a_line_of_rollouts_is_a_question_with_its_candidates(tmp_path: Path) -> None:
    image_file(tmp_path / "images" / "MathVerse" / "1.png")
    again = asked("2", rollouts=["d", "e", "f"], errors=["", "", ""])
    source = jsonl(
        tmp_path / "rollouts_n2.jsonl",
        asked("1", rollouts=["a", "<think>why</think>\n\nb"], errors=["", ""], num_rollouts=2),
        asked("2", rollouts=["d"], errors=[""]),
        again,  # a resumed run appends the question with more rollouts
        asked("3", rollouts=[]),
        asked("4", rollouts=["x"], images=["/data/LMUData/images/MathVerse/none.png"]),
    )
    found = read_rollouts([source])
    assert found.format == "vrprm"
    assert all_texts(found.sets) == {"Question 1?": ["a", "b"], "Question 2?": ["d", "e", "f"]}
    first = found.sets[0]
    assert (first.id, first.gold, first.policy) == ("MathVerse_MINI_Vision_Only/1", "4", "InternVL2_5-8B")
    assert first.candidates[1].thought == "why"
    assert first.pictures == (tmp_path / "images" / "MathVerse" / "1.png",)
    assert [reject.where.rpartition(":")[2] for reject in found.rejects] == ["4", "5"]
    assert "none.png" in found.rejects[1].reason
    assert found.records == 4
    assert any("1 records repeat" in note for note in found.notes)


def test_candidates_are_sorted_by_their_number_and_failed_requests_are_counted(tmp_path: Path) -> None:
    image_file(tmp_path / "images" / "MathVerse" / "1.png")
    source = jsonl(
        tmp_path / "rollouts_n3.candidates.jsonl",
        asked("1", candidate_idx=2, rollout="third", error=""),
        asked("1", candidate_idx=1, rollout="", error="TimeoutError()"),
        asked("1", candidate_idx=0, rollout="first", error=""),
        asked("2", candidate_idx=0, rollout="", error="TimeoutError()"),
        asked("1", candidate_idx=1, rollout="second", error=""),
    )
    found = read_rollouts([source])
    assert all_texts(found.sets) == {"Question 1?": ["first", "second", "third"]}
    assert [("TimeoutError" in reject.reason) for reject in found.rejects] == [True]


def test_scores_join_the_candidates_with_the_same_texts(tmp_path: Path) -> None:
    image_file(tmp_path / "images" / "MathVerse" / "1.png")
    rollouts = jsonl(tmp_path / "rollouts.jsonl", asked("1", rollouts=["a", "b", "a"]))
    head = {"dataset": "MathVerse-VO", "vlmeval_dataset": "MathVerse_MINI_Vision_Only", "policy_model": "p", "bon": 3}
    scores = jsonl(
        tmp_path / "a_scores.jsonl",
        {
            **head,
            "index": "1",
            "reward_mode": "visualprm_soft_v1",
            "best_idx": 0,
            "candidates": [
                scored("a", 0, [0.5, 0.7]),
                scored("b", 1, [-2.0, -2.0], "length mismatch"),
                scored("a", 2, [0.5, 0.7]),
            ],
        },
        {**head, "index": "9", "best_idx": 0, "candidates": [scored("a", 0, [0.1])]},
    )
    for sources in ([rollouts, scores], [scores, rollouts]):
        found = read_rollouts(sources)
        (one,) = found.sets
        assert texts(one.candidates) == ["a", "b", "a"]
        assert [dict(candidate.scores) for candidate in one.candidates] == [
            {"visualprm_soft_v1": (0.5, 0.7)},
            {},
            {"visualprm_soft_v1": (0.5, 0.7)},
        ]
        assert [reject.where for reject in found.rejects] == ["a_scores.jsonl:2"]


def test_the_candidates_of_a_file_and_of_its_log_count_once(tmp_path: Path) -> None:
    image_file(tmp_path / "pool" / "images" / "MathVerse" / "1.png")
    whole = jsonl(tmp_path / "pool" / "rollouts_n2.jsonl", asked("1", rollouts=["a", "b"]))
    each = [asked("1", candidate_idx=at, rollout=text, error="") for at, text in enumerate("ab")]
    log = jsonl(tmp_path / "pool" / "rollouts_n2.candidates.jsonl", *each)
    other = jsonl(tmp_path / "pool" / "more_n1.candidates.jsonl", asked("1", candidate_idx=0, rollout="c", error=""))
    for sources in ([str(tmp_path / "pool")], [log, whole, other]):
        found = read_rollouts(sources)
        assert sorted(all_texts(found.sets)["Question 1?"]) == ["a", "b", "c"]
        assert any("2 records repeat" in note for note in found.notes)
    Path(whole).unlink()
    assert all_texts(read_rollouts([log]).sets) == {"Question 1?": ["a", "b"]}
