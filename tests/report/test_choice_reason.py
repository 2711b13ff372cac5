"""The sentence about the choice of a path states only what the record confirms."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.api import Node, Outcome, Usage
from atomthink_plugin.report.choice_reason import choice_reason, confirmed_reason
from atomthink_plugin.report.node_status import FinishedTree, statuses
from atomthink_plugin.report.page_data import QuestionAnswers, question_details
from atomthink_plugin.searches.beam import beam
from atomthink_plugin.searches.best_of_n import best_of_n
from atomthink_plugin.searches.greedy import greedy
from atomthink_plugin.searches.majority import majority
from atomthink_plugin.searches.weighted import weighted
from tests.report.runs import search_all
from tests.trees import REDUCE, Grove, groves


def reason_of(outcome: Outcome, **search: Any) -> str:
    tree = FinishedTree(outcome)
    return choice_reason(outcome, search, tree, statuses(tree, search))


def confirmed(outcome: Outcome, **search: Any) -> bool:
    tree = FinishedTree(outcome)
    return confirmed_reason(outcome, search, tree, statuses(tree, search)) is not None


def path(name: str, answer: str | None, score: float | None, times: int = 1, logprob: float = -1.0) -> Node:
    return Node(name, "root", f"Step 1: {name}.", score, logprob * times, 9, times, answer)


def chosen(name: str, *nodes: Node, value: float = 0.5, **changes: Any) -> Outcome:
    """An outcome of paths with one step each."""
    node = next(node for node in nodes if node.id == name)
    outcome = Outcome("", node.answer, (node.text,), (node.score,), value, "final", Usage(), nodes)
    return replace(outcome, **changes)


A, B, C = path("a", "5", 0.88, 3), path("b", "75", 0.81, 4), path("c", "5", 0.4)


def test_scores_and_the_next_best_answer_are_named() -> None:
    best = reason_of(chosen("a", A, B, C), name="best_of_n", n=8)
    assert all(part in best for part in ("5", "mean", "0.88", "8", "75", "0.81"))
    close = reason_of(chosen("a", replace(A, score=0.8814), replace(B, score=0.8791), C), name="best_of_n", n=8)
    assert all(part in close for part in ("0.881", "0.879"))
    assert "min" in reason_of(chosen("a", A, B, C), name="best_of_n", n=8, aggregate="min")


def test_votes_are_counted() -> None:
    assert all(part in reason_of(chosen("b", A, B), name="majority", n=8) for part in ("75", "4 of 7", "3"))
    assert all(part in reason_of(chosen("a", A, C), name="majority") for part in ("5", "4"))
    heavy = reason_of(chosen("b", A, B, C), name="weighted", n=8)
    share = 4 * 0.81 / (3 * 0.88 + 4 * 0.81 + 0.4)
    assert f"{share:.0%}" in heavy
    assert f"{1 - share:.0%}" in heavy


def test_formulas_have_delimiters() -> None:
    assert r"\(\frac{1}{2}\)" in reason_of(chosen("a", replace(A, answer=r"\frac{1}{2}"), B), name="best_of_n")


@pytest.mark.parametrize(
    ("outcome", "search"),
    [
        (chosen("b", A, B), {"name": "best_of_n"}),  # another one has the higher score
        (chosen("a", A, replace(B, score=None)), {"name": "best_of_n"}),
        (chosen("a", A, B), {"name": "majority"}),  # another answer has more votes
        (chosen("c", B, C), {"name": "weighted"}),
        (chosen("a", A, B), {"name": "shortest"}),
        (chosen("a", A, B), {}),
    ],
)
def test_no_reason_is_given_if_the_record_does_not_confirm_it(outcome: Outcome, search: dict[str, Any]) -> None:
    assert not confirmed(outcome, **search)
    assert "0.5" in reason_of(outcome, **search)  # the value that the search reported


def test_paths_without_an_answer() -> None:
    end = path("d", None, 0.3)
    assert "budget" in reason_of(chosen("d", end, stopped="budget"), name="beam")
    assert "budget" not in reason_of(chosen("d", end, stopped="depth"), name="beam")
    assert confirmed(chosen("c", C), name="quick")


@pytest.mark.slow
@given(grove=groves(), n=st.integers(1, 6), aggregate=st.sampled_from(list(REDUCE)))
def test_every_choice_of_our_searches_is_confirmed(grove: Grove, n: int, aggregate: Any) -> None:
    for search, settings in (
        (best_of_n(n, aggregate), {"name": "best_of_n", "n": n, "aggregate": aggregate}),
        (weighted(n, aggregate), {"name": "weighted", "n": n, "aggregate": aggregate}),
        (majority(n), {"name": "majority", "n": n}),
        (beam(2, n, aggregate), {"name": "beam", "beams": 2, "candidates": n, "aggregate": aggregate}),
        (greedy(n), {"name": "greedy", "candidates": n}),
    ):
        (outcome,) = search_all(search, [grove])
        if outcome.nodes and not all(score == 0 for score in grove.scores.values()):
            assert confirmed(outcome, **settings) or settings["name"] == "weighted"


def test_finished_paths_are_sorted_by_the_criterion_of_the_search() -> None:
    late = path("d", "75", 0.7, 1, -0.5)
    answer = QuestionAnswers((_answered(chosen("c", A, B, C, late)),))
    (ranked,) = question_details(answer, [{"name": "best_of_n"}])["runs"]
    order = [path["mean"] for path in ranked["tree"]["finished"]]
    assert order == [0.4, 0.88, 0.81, 0.7]  # the chosen path is first
    answer = QuestionAnswers((_answered(chosen("d", A, B, C, late)),))
    (voted,) = question_details(answer, [{"name": "majority"}])["runs"]
    finished = voted["tree"]["finished"]
    votes = Counter[int]()
    for one in finished:
        votes[one["group"]] += one["votes"]
    assert [votes[one["group"]] for one in finished] == [5, 5, 4, 4]
    assert [one.get("chosen") for one in finished] == [True, None, None, None]
    assert math.isclose(finished[0]["likelihood"], math.exp(-0.5 / 9), rel_tol=1e-3)


def _answered(outcome: Outcome) -> Any:
    class Answer:
        text, options, target, reply = "", (), None, ""
        entry = extracted = rule = failed = tokens = policy_calls = prm_calls = seconds = stopped = None

    answer: Any = Answer()
    answer.outcome = outcome
    return answer


@pytest.mark.parametrize("name", ["best_of_n", "majority", "mcts", "swires"])
def test_a_path_without_steps_has_no_value(name: str) -> None:
    some = chosen("a", A)
    none = replace(some, answer=None, steps=(), scores=(), value=0.0, stopped="invalid")
    for outcome, shown in ((some, True), (none, False)):
        (run,) = question_details(QuestionAnswers((_answered(outcome),)), [{"name": name}])["runs"]
        assert ("won" in run) == shown
