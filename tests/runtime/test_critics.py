"""Searches with a generative PRM: its cost counts, the budget holds, and a killed run repeats nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import pytest

from atomthink_plugin.api import Failure, Outcome, Prompt, Proposal, Sampling, Scorer, Search, Usage
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.runtime.journal import Journal
from atomthink_plugin.runtime.journal_reader import outcome_of
from atomthink_plugin.runtime.records import decode, encode
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.scorers.prm_judge import ChainPrmJudge, PrmJudge
from atomthink_plugin.searches.beam import beam
from atomthink_plugin.searches.best_of_n import best_of_n
from atomthink_plugin.searches.refined_best_of_n import refined_best_of_n
from atomthink_plugin.searches.weighted import weighted
from atomthink_plugin.testing import ScriptedPolicy
from tests.scorers.scripted_critic import ScriptedCritic, text_of
from tests.scorers.test_prm_judge import profile
from tests.trees import question, settings

LOOK, GUESS = "Step 1: Look.", "Step 1: Guess."
FOUR, FIVE = "Step 2: So the final answer is: 4.", "Step 2: Hence the final answer is: 5."
TREE = {"": {LOOK: 0.5, GUESS: 0.5}, LOOK: {FOUR: 0.5, FIVE: 0.5}, GUESS: {FOUR: 0.5, FIVE: 0.5}}
RIGHT = {LOOK: 0.9, GUESS: 0.3, FOUR: 0.8, FIVE: 0.1}
"""The probability that a step is right, wherever it stands."""


def weighs(prompt: Prompt) -> dict[str, float]:
    """The verdict on the step after the last bar."""
    asked = text_of(prompt).split("|")[-1]
    right = next(share for step, share in RIGHT.items() if step in asked)
    return {"Yes": right, "No": 1 - right}


def critic(**given: Any) -> ScriptedCritic:
    return ScriptedCritic(**{"says": lambda prompt, draw: f"critique {draw} in four words", "weighs": weighs, **given})


def stepwise(asked: ScriptedCritic, **critique: Any) -> PrmJudge:
    given = {"prompt": "{{ question }}{{ steps[:-1] }}|{{ step }}", "ask": "", "temperature": 1.0, "samples": 2}
    return PrmJudge(profile(**given, **critique), asked)


def of_chains(asked: ScriptedCritic) -> ChainPrmJudge:
    thought = {"prompt": "Think about {{ steps | length }}|{{ steps[0] }}", "max_tokens": 20}
    made = profile(scope="chain", thought=thought, prompt="{{ thought }}|{{ step }}", max_tokens=0, ask="")
    return ChainPrmJudge(made, asked)


def run(search: Search, scorer: Scorer, journal: Journal | None = None, names: str = "q", **limits: Any) -> list[Any]:
    policy = ScriptedPolicy(TREE, exhaustive=limits.pop("exhaustive", True))
    on_error = limits.pop("on_error", "record")
    runner = Runner(policy, scorer, Continue(), search, settings(**limits), journal, on_error=on_error, trees=True)
    return runner.run([question(name) for name in names])


def timeless(outcome: Any) -> Any:
    return replace(outcome, usage=replace(outcome.usage, seconds=0.0), rollouts=())


@pytest.mark.parametrize("search", [beam(2, 2), best_of_n(4), weighted(4)])
def test_a_search_chooses_by_the_verdicts_and_counts_the_critiques(search: Search) -> None:
    asked = critic()
    (outcome,) = run(search, stepwise(asked))
    assert outcome.answer == "4"
    assert outcome.scores == pytest.approx((0.9, 0.8))
    scored = [node for node in outcome.nodes if node.score is not None]
    assert outcome.usage.score_calls == len(scored) == len(asked.critiques)
    assert outcome.usage.judged == len(scored) * 2 * (5 + 1)
    policy_tokens = sum(node.tokens * node.multiplicity for node in outcome.nodes)
    assert outcome.usage.tokens == policy_tokens + outcome.usage.judged
    assert all("critique" in node.reason for node in scored)


@pytest.mark.parametrize("search", [best_of_n(4), weighted(4), refined_best_of_n(4, threshold=0.0)])
def test_a_search_over_chains_reads_each_chain_once(search: Search) -> None:
    asked = critic(says=lambda prompt, _: "a thought")
    (outcome,) = run(search, of_chains(asked), exhaustive=False)
    chains = {tuple(outcome.chains()[rollout.end]) for rollout in outcome.rollouts}
    assert len(asked.critiques) == len(chains) > 1
    assert len(asked.verdicts) == outcome.usage.score_calls == 2 * len(chains)
    assert outcome.usage.judged == len(chains) * (2 + 2)
    assert outcome.scores == pytest.approx([RIGHT[step] for step in outcome.steps])


@pytest.mark.parametrize("budget", [0, 1, 7, 20, 60, 150])
@pytest.mark.parametrize("search", [beam(2, 2), best_of_n(4)])
def test_policy_and_critic_together_stay_within_the_budget_of_tokens(search: Search, budget: int) -> None:
    steps = 4 * 10  # what the policy needs for four chains
    (outcome,) = run(search, stepwise(critic()), budget_tokens=steps + budget)
    assert isinstance(outcome, Outcome)
    assert outcome.usage.tokens <= steps + budget
    assert outcome.usage.judged > 0 or budget <= 7


def test_a_critique_that_the_budget_cuts_is_still_asked_for_its_verdict() -> None:
    asked = critic(says=lambda *_: "word " * 40)
    spent = sum(len(step.split()) for step in (LOOK, FOUR))
    (outcome,) = run(best_of_n(1), PrmJudge(stepwise(asked).profile, asked), budget_tokens=spent + 30)
    assert outcome.usage.tokens <= spent + 30
    assert asked.verdicts
    unscored = [node for node in outcome.nodes if node.score is None]
    assert all("not scored" in node.reason for node in unscored)


class KilledError(RuntimeError):
    """What ends a run in the middle."""


def mortal(asked: ScriptedCritic, calls: int) -> Callable[..., Any]:
    """Lets a critic answer `calls` times, and never again."""
    real, left = asked.propose, [calls]

    async def propose(prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        left[0] -= 1
        if left[0] < 0:
            raise KilledError
        return await real(prompt, n, sampling)

    return propose


@pytest.mark.parametrize("turns", [False, True])
@pytest.mark.parametrize("calls", [1, 4, 9])
def test_a_killed_run_goes_on_without_repeating_a_critique(turns: bool, calls: int, tmp_path: FilePath) -> None:
    facts = {"prompt": "Describe {{ question }}|Step 1: Look.", "max_tokens": 9}

    def judge(asked: ScriptedCritic) -> PrmJudge:
        return stepwise(asked, turns=turns, facts=facts)

    whole = critic()
    (expected,) = run(best_of_n(4), judge(whole))
    first, second = critic(), critic()
    first.propose = mortal(first, calls)  # type: ignore[method-assign]
    with contextlib.closing(Journal(tmp_path, "run", {})) as journal:
        (killed,) = run(best_of_n(4), judge(first), journal)
        assert isinstance(killed, Failure)
    with contextlib.closing(Journal(tmp_path, "run", {})) as journal:
        (resumed,) = run(best_of_n(4), judge(second), journal)
        assert timeless(journal.get(question())) == timeless(resumed)
    assert timeless(resumed) == timeless(expected)
    assert len(first.prompts) == calls
    assert len(first.prompts) + len(second.prompts) == len(whole.prompts)


def test_results_do_not_depend_on_which_reply_comes_first() -> None:
    slow = critic(pauses=lambda prompt: len(text_of(prompt)) * 7 % 11)
    expected = [timeless(outcome) for outcome in run(best_of_n(4), stepwise(critic(), turns=True), names="abc")]
    assert [timeless(outcome) for outcome in run(best_of_n(4), stepwise(slow, turns=True), names="cab")] == [
        expected["abc".index(name)] for name in "cab"
    ]


def test_a_question_that_fails_has_the_cost_of_its_critiques() -> None:
    asked = critic()
    asked.propose = mortal(asked, 1)  # type: ignore[method-assign]
    (failed,) = run(best_of_n(1), stepwise(asked))
    assert isinstance(failed, Failure)
    assert failed.usage.judged == 2 * 5


def test_unreadable_verdicts_are_counted_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    lost = critic(weighs=lambda prompt: {"Maybe": 1.0} if GUESS in text_of(prompt).split("|")[-1] else weighs(prompt))
    (outcome,) = run(beam(2, 2), stepwise(lost))
    assert outcome.answer == "4"
    (warning,) = [record.getMessage() for record in caplog.records if "could not be read" in record.getMessage()]
    guessed = [node for node in outcome.nodes if node.text == GUESS]
    assert f"{2 * len(guessed)} of " in warning
    assert all(node.score == 0.5 and "could not be read" in node.reason for node in guessed)


def test_a_journal_without_critiques_and_their_tokens_is_read() -> None:
    (outcome,) = run(best_of_n(2), stepwise(critic()))
    record = decode(encode({"key": "k", "outcome": outcome}))["outcome"]
    assert timeless(outcome_of(record)) == timeless(outcome)
    record["usage"].pop("judged")
    for node in record["nodes"]:
        node.pop("reason")
    old = outcome_of(record)
    assert (old.usage.judged, {node.reason for node in old.nodes}) == (0, {""})


def test_costs_of_a_call_become_costs_of_a_scorer() -> None:
    cost = Usage(policy_calls=3, generated=40, prefilled=7, cached=5, images=1)
    assert cost.as_judged() == Usage(judged=40, prefilled=7, cached=5, images=1)
    assert cost.as_judged().as_judged() == cost.as_judged()
    assert (cost + cost.as_judged()).tokens == 80
