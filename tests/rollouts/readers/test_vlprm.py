"""Results of the guided search of Qwen-VL-PRM: whole replies, and replies that were chosen step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from atomthink_plugin.rollouts.rollout_file import read_rollouts
from tests.rollouts.readers.record_files import base64_png, json_list, texts


def candidate(text: str, good: float = 0.5) -> dict[str, Any]:
    result = {"prediction": "positive", "positive_prob": good, "negative_prob": 1 - good, "reward_score": good / 9}
    return {"candidate_step": text, "reward": good / 9, "reward_result": result}


def iteration(number: int, chosen: int, *candidates: dict[str, Any]) -> dict[str, Any]:
    text = candidates[chosen]["candidate_step"] if chosen < len(candidates) else None
    return {
        "iteration_index": number,
        "candidates_info": list(candidates),
        "chosen_step_index": chosen,
        "chosen_step": text,
    }


def result(index: int, *history: dict[str, Any], **annotation: Any) -> dict[str, Any]:
    return {
        "question": f"Question {index}?",
        "index": index,
        "annotation": {"image": base64_png(), "choices": "['red', 'blue']", **annotation},
        "task": "mathvista_testmini",
        "iteration_history": list(history),
        "final_steps": ["..."],
        "gt_answer": "red",
        "pred_answer": "red",
    }


def test_the_candidates_of_a_single_iteration_are_replies(tmp_path: Path) -> None:
    whole = iteration(1, 0, candidate("Look.\n\nIt is \\boxed{red}<|im_end|>"), candidate("\\boxed{blue}<end_of_turn>"))
    found = read_rollouts([json_list(tmp_path / "results.json", result(3, whole), result(4))])
    (one,) = found.sets
    assert (found.format, one.id, one.gold, one.choices) == ("vlprm", "mathvista_testmini/3", "red", ("red", "blue"))
    assert texts(one.candidates) == ["Look.\n\nIt is \\boxed{red}", "\\boxed{blue}"]
    assert [one.steps for one in one.candidates] == [None, None]
    assert [one.stated_answer() for one in one.candidates] == ["red", "blue"]
    assert len(one.pictures) == 1
    assert isinstance(one.pictures[0], bytes)
    assert [reject.where for reject in found.rejects] == ["results.json:2"]
    assert len(found.notes) == 1  # identical candidates are in the file once


def test_a_reply_of_several_iterations_begins_with_the_chosen_steps(tmp_path: Path) -> None:
    history = (
        iteration(1, 1, candidate("a\n\n"), candidate("b\n\n", 0.9)),
        iteration(2, 0, candidate("c\n\n", 0.8), candidate("quick \\boxed{1}<|im_end|>", 0.2)),
        iteration(3, 1, candidate("d\n\n"), candidate("\\boxed{2}<|im_end|>", 0.7)),
    )
    beyond = iteration(1, 5, candidate("a\n\n")), iteration(2, 0, candidate("b<|im_end|>"))
    unfinished = iteration(1, 0, candidate("a\n\n")), iteration(2, 0, candidate("b\n\n"))
    source = json_list(
        tmp_path / "results.json",
        result(1, *history, choices=None, options=None, A="one", B="two", C=None),
        result(2, *beyond),
        result(3, *unfinished),
    )
    found = read_rollouts([source])
    (one,) = found.sets
    assert [candidate.steps for candidate in one.candidates] == [("b", "quick \\boxed{1}"), ("b", "c", "\\boxed{2}")]
    assert one.candidates[1].scores == {"vlprm": (0.9, 0.8, 0.7)}
    assert one.choices == ("one", "two")
    assert len(found.rejects) == 2
