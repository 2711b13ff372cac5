"""Runs that are written for the viewer."""

from __future__ import annotations

from pathlib import Path

import pytest

from atomthink_plugin.api import AtomThinkError, Usage
from atomthink_plugin.report.run_reader import read
from atomthink_plugin.rollouts.candidate_scores import CandidateScores
from atomthink_plugin.rollouts.rollout_set import RolloutCandidate, RolloutSet
from atomthink_plugin.rollouts.run_export import run_folder, write_run


def candidate(answer: str | None, correct: bool, *steps: str) -> RolloutCandidate:
    return RolloutCandidate("\n\n".join(steps), steps, answer, correct, tokens=10, logprob=-5.0)


SETS = [
    RolloutSet(
        "sums/7",
        "1 + 1?",
        (
            candidate("3", False, "Add.", "It is 3."),
            candidate("2", True, "Add.", "It is 2."),
            candidate(None, False, "I do not know."),
        ),
        choices=("2", "3"),
        gold="2",
        subset="sums",
    )
]
SCORES = CandidateScores("prm", [[(0.5, 0.1), (0.5, 0.9), "too long"]], Usage())


def test_candidates_are_paths_of_a_tree_with_their_scores(tmp_path: Path) -> None:
    write_run(run_folder(tmp_path, "ORG/prm"), SETS, SCORES, "min", "the file")
    run = read(tmp_path / "ORG-prm")
    (question,) = run.questions
    assert run.missing == []
    assert (question.correct, question.target, question.options) == (True, "2", ("2", "3"))
    assert question.groups == {"subset": ("sums",)}
    outcome = question.outcome
    assert outcome is not None
    assert (outcome.steps, outcome.scores, outcome.value) == (("Add.", "It is 2."), (0.5, 0.9), 0.5)
    nodes = {node.text: node for node in outcome.nodes}
    assert {text: node.score for text, node in nodes.items() if node.rejected is None} == {
        "Add.": 0.5,
        "It is 3.": 0.1,
        "It is 2.": 0.9,
    }
    assert "too long" in str(nodes["I do not know."].rejected)
    assert nodes["I do not know."].score is None
    assert run.latency is None
    assert nodes["Add."].multiplicity == 2
    assert [rollout.end for rollout in outcome.rollouts] == [
        nodes[text].id for text in ("It is 3.", "It is 2.", "I do not know.")
    ]


def test_a_wrong_choice_is_a_wrong_answer_of_the_run(tmp_path: Path) -> None:
    scores = CandidateScores("prm", [[(0.5, 0.9), (0.5, 0.1), "too long"]], Usage())
    write_run(tmp_path / "run", SETS, scores, "min", "the file")
    (question,) = read(tmp_path / "run").questions
    assert question.correct is False


def test_critiques_are_at_their_steps(tmp_path: Path) -> None:
    scores = CandidateScores("prm", SCORES.scores, Usage(), [[("fine", "wrong"), ("fine", "right"), ()]])
    write_run(tmp_path / "run", SETS, scores, "min", "the file")
    outcome = read(tmp_path / "run").questions[0].outcome
    assert outcome is not None
    reasons = {node.text: node.reason for node in outcome.nodes}
    assert (reasons["Add."], reasons["It is 3."], reasons["It is 2."]) == ("fine", "wrong", "right")


def test_the_order_of_tied_candidates_does_not_decide_which_one_is_shown(tmp_path: Path) -> None:
    shown = set()
    for name, order in (("a", (0, 1)), ("b", (1, 0))):
        asked = RolloutSet("q", "?", tuple(SETS[0].candidates[i] for i in order), gold="2")
        write_run(tmp_path / name, [asked], CandidateScores("p", [[(0.5, 0.5), (0.5, 0.5)]], Usage()), "mean", "file")
        shown.add(read(tmp_path / name).questions[0].reply)
    assert len(shown) == 1


def test_a_run_is_replaced_and_other_files_are_not(tmp_path: Path) -> None:
    for _ in range(2):
        write_run(run_folder(tmp_path, "prm"), SETS, SCORES, "mean", "the file")
    assert len(read(tmp_path / "prm").questions) == 1
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(AtomThinkError, match="mine"):
        run_folder(tmp_path, "mine")
