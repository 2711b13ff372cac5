"""Responses of a policy as EVPV-PRM reads them."""

from __future__ import annotations

from pathlib import Path

from atomthink_plugin.rollouts.candidate_verdicts import judge_candidates
from atomthink_plugin.rollouts.rollout_file import read_rollouts
from tests.rollouts.readers.record_files import image_file, jsonl

QUESTION = {"question": "Which?", "answer": "square", "image": "LogicVista/0.png", "datasource": "LogicVista"}


def response(answer: str | None, *steps: str, **fields: object) -> dict[str, object]:
    process = [{"steptext": step, "visualdependency": "a square" if at == 0 else None} for at, step in enumerate(steps)]
    return {"reasoningprocess": process, "finalanswer": answer, **fields}


def test_the_responses_are_candidates_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    image_file(tmp_path / "LogicVista" / "0.png")
    judged = {"raw_step_scores": [1.0, -1.0], "final_step_scores": [0.9, -1.0], "local_p_score": 0.9}
    record = {
        **QUESTION,
        "pid": 7,
        "choices": ["circle", "square"],
        "vlmresponse10": response("A", "tenth"),
        "vlmresponse1": response("square", "See it.", "Say it.", eval=judged),
        "vlmresponse2": {"error": "Failed to parse model JSON", "rawoutput": "the figure is a sq"},
        "vlmresponse3": response("B", "Third."),
        "vlmresponse4": response(None, "It has no end."),
    }
    found = read_rollouts([jsonl(tmp_path / "outputs.jsonl", record)])
    (one,) = found.sets
    assert (found.format, one.id, one.subset, one.gold) == ("evpv", "LogicVista/7", "LogicVista", "square")
    assert [candidate.steps for candidate in one.candidates] == [
        ("See it.", "Say it."),
        None,
        ("Third.",),
        ("It has no end.",),
        ("tenth",),
    ]
    assert one.candidates[0].scores == {"evpv": (1.0, -1.0), "evpv_gated": (0.9, -1.0)}
    assert one.candidates[1].text == "the figure is a sq"
    (right,) = judge_candidates([one]).sets
    assert [candidate.correct for candidate in right.candidates] == [True, False, True, False, False]


def test_a_question_without_an_id_is_told_by_its_text_and_image(tmp_path: Path) -> None:
    image_file(tmp_path / "LogicVista" / "0.png")
    image_file(tmp_path / "LogicVista" / "1.png")
    first = {**QUESTION, "vlmresponse1": response("a", "One.")}
    source = jsonl(
        tmp_path / "outputs.jsonl",
        first,
        {**first, "image": "LogicVista/1.png"},
        {**first, "vlmresponse1": response("b", "Two.")},
        {**QUESTION, "error": "Image not found"},
        {**first, "vlmresponse1": "no object"},
        {**first, "image": "LogicVista/2.png"},
        {**QUESTION, "vlmresponse1": response("a", "One.", eval={"raw_step_scores": [1.0, -1.0]})},
    )
    found = read_rollouts([source])
    assert [len(one.candidates) for one in found.sets] == [2, 1]
    assert len({one.id for one in found.sets}) == 2
    assert [reject.where.rpartition(":")[2] for reject in found.rejects] == ["4", "5", "6", "7"]
    assert found.rejects[1].reason.startswith("vlmresponse1: ")
    assert "LogicVista/2.png" in found.rejects[2].reason
