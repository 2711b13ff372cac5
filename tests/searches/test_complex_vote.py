"""Votes of the most complex chains against brute force over subsets."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from itertools import combinations
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.api import AtomThinkError, Choice, Format, Path, Prompt
from atomthink_plugin.formats.direct import Direct
from atomthink_plugin.runtime.tree import QuestionTree
from atomthink_plugin.searches.complex_vote import complex_vote
from atomthink_plugin.searches.majority import majority
from tests.searches.scripted_replies import ScriptedReplies
from tests.trees import Grove, groves, question_tree, settings, tree_of


def vote(tree: QuestionTree, n: int, keep: int) -> Choice:
    return asyncio.run(complex_vote(n, keep)(tree))


def kept(paths: list[Path], keep: int) -> tuple[int, ...]:
    """Brute force over all subsets: the one with the most steps, then the likeliest, then the one of the first ones."""
    return max(
        combinations(range(len(paths)), keep),
        key=lambda subset: (
            sum(paths[i].depth for i in subset),
            math.fsum(paths[i].logprob for i in subset),
            [-i for i in subset],
        ),
    )


@given(groves(depth=4), st.integers(1, 7), st.data(), st.integers(0, 99))
def test_the_longest_chains_vote(grove: Grove, n: int, data: st.DataObject, seed: int) -> None:
    keep = data.draw(st.integers(1, n))
    choice = vote(tree_of(grove, seed=seed), n, keep)
    paths = asyncio.run(tree_of(grove, seed=seed).rollouts(n))
    votes: dict[str | None, list[float]] = defaultdict(list)
    for i in kept(paths, keep):
        votes[paths[i].answer].append(paths[i].logprob)
    most = max(len(members) for members in votes.values())
    tied = {answer: fmean(members) for answer, members in votes.items() if len(members) == most}
    assert tied[choice.path.answer] == pytest.approx(max(tied.values()))
    assert choice.value == pytest.approx(most / keep)


@given(groves(), st.integers(1, 6))
def test_where_all_are_kept_it_is_the_majority(grove: Grove, n: int) -> None:
    choice, other = vote(tree_of(grove), n, n), asyncio.run(majority(n)(tree_of(grove)))
    assert (choice.path.answer, choice.value) == (other.path.answer, pytest.approx(other.value))


def scripted(lengths: list[int], format: Format | None = None, **limits: int) -> QuestionTree:
    """Chain `i` has `lengths[i]` steps, or lines, and answers with their number; 0 for a chain that does not end."""

    def write(prompt: Prompt, index: int, seed: int) -> str:
        at = prompt.prefix.count("Step") + 1
        end = lengths[index]
        if format is not None:
            return "".join(f"Line {k} of {index}.\n" for k in range(1, end)) + f"The final answer is: {end}."
        return f"Step {at}: The final answer is: {end}." if at == end else f"Step {at}: Road {index} to {at}."

    return question_tree(ScriptedReplies(write), format=format, limits=settings(**limits))


@pytest.mark.parametrize("format", [None, Direct()])
@pytest.mark.parametrize(("keep", "answer"), [(1, "4"), (3, "3"), (6, "1")])
def test_steps_and_lines_count(format: Format | None, keep: int, answer: str) -> None:
    lengths = [1, 3, 1, 4, 3, 1]
    choice = vote(scripted(lengths, format), len(lengths), keep)
    assert choice.path.answer == answer


def test_steps_count_before_lines() -> None:
    texts = {0: ["Step 1: Look.", "Step 2: Go on.", "Step 3: The final answer is: 3."]}
    texts[1] = [f"Step 1: Look.\n{'And look again.' * 9}\nOnce more.", "Step 2: Add.\nThe final answer is: 2."]
    policy = ScriptedReplies(lambda prompt, index, seed: texts[index][prompt.prefix.count("Step")])
    assert vote(question_tree(policy), 2, 1).path.answer == "3"


@pytest.mark.parametrize(("keep", "voters"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (6, 3)])
def test_the_same_share_of_the_concluded_chains_votes(keep: int, voters: int) -> None:
    tree = scripted([0, 2, 0, 1, 3, 0], max_steps=4)
    outcome = tree.outcome(vote(tree, 6, keep))
    votes = {node.answer: node.note[-1] for node in outcome.nodes if node.answer}
    assert votes == {answer: "1" if place < voters else "0" for place, answer in enumerate("321")}


@pytest.mark.parametrize("calls", [1, 2, 3, 5, 8, 13, 21])
def test_a_spent_budget_leaves_the_chains_that_it_paid_for(calls: int) -> None:
    tree = scripted([3] * 6, budget_calls=calls, max_steps=3)
    outcome = tree.outcome(vote(tree, 6, 4))
    assert outcome.usage.policy_calls == min(calls, 18)
    assert (outcome.answer, outcome.stopped) == (("3", "final") if calls >= 3 else (None, "budget"))


def test_more_voters_than_chains_are_refused() -> None:
    with pytest.raises(AtomThinkError, match="keep=9"):
        complex_vote(8, 9)
