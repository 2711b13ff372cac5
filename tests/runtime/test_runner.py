"""Whole runs: results do not depend on order, batching, interruption or failures of other questions."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path as FilePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.answers import group
from atomthink_plugin.api import (
    Failure,
    Outcome,
    Prompt,
    Proposal,
    QuestionError,
    Result,
    Sampling,
    Search,
    Usage,
)
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.runtime.journal import Journal
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.searches.beam import beam
from atomthink_plugin.searches.best_of_n import best_of_n
from atomthink_plugin.searches.greedy import greedy
from atomthink_plugin.searches.majority import majority
from atomthink_plugin.searches.parts import voting
from atomthink_plugin.searches.quick import quick
from atomthink_plugin.searches.weighted import weighted
from atomthink_plugin.testing import ScriptedPolicy, ScriptedScorer
from tests.trees import Grove, groves, question, settings

SEARCHES = (
    quick(),
    majority(5),
    weighted(5),
    best_of_n(5),
    greedy(3),
    beam(2, 3),
    beam(2, 3, stop="first_final"),
)
searches = st.sampled_from(SEARCHES)


def runner(grove: Grove, search: Search, policy: ScriptedPolicy | None = None, **changes: object) -> Runner:
    scripted = policy or ScriptedPolicy(grove.tree)
    plain = Runner(scripted, ScriptedScorer(grove.scores), Continue(), search, settings(), trees=True)
    return replace(plain, **changes)  # type: ignore[arg-type]


def timeless(results: list[Result]) -> list[Result]:
    return [_timeless(result) for result in results]


def _timeless(result: Result) -> Result:
    result = replace(result, usage=replace(result.usage, seconds=0.0))
    if isinstance(result, Outcome):
        return replace(result, rollouts=tuple(replace(rollout, seconds=0.0) for rollout in result.rollouts))
    return result


QUESTIONS = [question(f"q{i}") for i in range(12)]


@pytest.mark.slow
@given(groves(), searches, st.integers(1, 20), st.integers(0, 999))
def test_results_do_not_depend_on_order_concurrency_and_timing(
    grove: Grove, search: Search, concurrency: int, seed: int
) -> None:
    expected = timeless(runner(grove, search, concurrency=1).run(QUESTIONS))
    chance = random.Random(seed)
    shuffled = list(range(len(QUESTIONS)))
    chance.shuffle(shuffled)
    slow = ScriptedPolicy(grove.tree, delay=lambda prompt, n: chance.randrange(6))
    results = runner(grove, search, slow, concurrency=concurrency).run([QUESTIONS[i] for i in shuffled])
    assert timeless(results) == [expected[i] for i in shuffled]


@pytest.mark.slow
@given(groves(), searches, st.integers(0, 60))
def test_an_interrupted_run_is_resumed(
    tmp_path_factory: pytest.TempPathFactory, grove: Grove, search: Search, calls: int
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    expected = timeless(runner(grove, search).run(QUESTIONS))

    def dies(prompt: Prompt) -> None:
        if len(first.calls) > calls:
            raise RuntimeError("killed")

    first = ScriptedPolicy(grove.tree, fails=dies)
    with contextlib.suppress(RuntimeError), contextlib.closing(journal(folder)) as begun:
        runner(grove, search, first, journal=begun, on_error="raise", concurrency=3).run(QUESTIONS)
    second = ScriptedPolicy(grove.tree)
    with contextlib.closing(journal(folder)) as resumed:
        finished = {one.id for one in QUESTIONS if resumed.get(one) is not None}
        results = runner(grove, search, second, journal=resumed).run(QUESTIONS)
    assert timeless(results) == expected
    assert not finished & {asked for asked, _, _ in second.calls}


def journal(folder: FilePath, **settings: object) -> Journal:
    return Journal(folder, "scripted", settings)


@pytest.mark.slow
@given(groves(depth=4), searches, st.integers(1, 25), st.integers(1, 120))
def test_no_search_exceeds_its_budget(grove: Grove, search: Search, calls: int, tokens: int) -> None:
    bounded = settings(budget_calls=calls, budget_tokens=tokens)
    policy = ScriptedPolicy(grove.tree)
    (result,) = runner(grove, search, policy, settings=bounded).run([question()])
    assert result.usage.policy_calls <= calls
    assert result.usage.generated <= tokens
    assert result.usage.policy_calls == sum(n for _, _, n in policy.calls)
    assert isinstance(result, Outcome)
    assert result.stopped in {"final", "budget", "invalid"}
    assert (result.answer is None) == (result.stopped != "final")


@given(groves(depth=4), searches, st.integers(1, 3))
def test_no_chain_has_more_steps_than_allowed(grove: Grove, search: Search, steps: int) -> None:
    (result,) = runner(grove, search, settings=settings(max_steps=steps)).run([question()])
    assert isinstance(result, Outcome)
    assert len(result.steps) <= steps
    assert result.stopped in {"final", "depth"}


def test_a_time_limit_returns_the_best_path_so_far() -> None:
    grove = Grove({"": {"Step 1: go.": 1.0}}, {}, {})
    spent = replace(settings(), budget_seconds=1e-9)
    (result,) = runner(grove, quick(), settings=spent).run([question()])
    assert isinstance(result, Outcome)
    assert (result.stopped, result.steps, result.usage.policy_calls) == ("budget", (), 0)


def test_a_failed_question_is_recorded_and_asked_again_by_the_next_run(tmp_path: FilePath) -> None:
    grove = Grove({"": {"Step 1: The final answer is: 1.": 1.0}}, {}, {})

    def broken(prompt: Prompt) -> None:
        if prompt.session == "q1":
            raise QuestionError("image 1 is truncated")

    policy = ScriptedPolicy(grove.tree, fails=broken)
    with contextlib.closing(journal(tmp_path)) as begun:
        results = runner(grove, quick(), policy, journal=begun).run(QUESTIONS[:3])
    assert results[1] == Failure("image 1 is truncated", Usage())
    assert [getattr(result, "answer", None) for result in results] == ["1", None, "1"]
    again = ScriptedPolicy(grove.tree)
    with contextlib.closing(journal(tmp_path)) as resumed:
        runner(grove, quick(), again, journal=resumed).run(QUESTIONS[:3])
    assert [asked for asked, _, _ in again.calls] == ["q1"]


def test_on_error_raise_stops_the_run() -> None:
    grove = Grove({}, {}, {})
    with pytest.raises(KeyError):
        runner(grove, quick(), on_error="raise").run(QUESTIONS)


def test_a_score_outside_zero_and_one_is_an_error() -> None:
    grove = Grove({"": {"Step 1: The final answer is: 1.": 1.0}}, {"Step 1: The final answer is: 1.": float("nan")}, {})
    (result,) = runner(grove, greedy(2)).run([question()])
    assert isinstance(result, Failure)
    assert "[0, 1]" in result.reason


def test_a_node_shared_by_paths_is_scored_once() -> None:
    first, final = "Step 1: Look.", "Step 2: The final answer is: 4."
    grove = Grove({"": {first: 1.0}, first: {final: 1.0}}, {first: 0.5, f"{first}\n\n{final}": 0.25}, {})
    scorer = ScriptedScorer(grove.scores)
    (result,) = runner(grove, best_of_n(7), scorer=scorer).run([question()])
    assert Counter(scorer.calls) == {first: 1, f"{first}\n\n{final}": 1}
    assert isinstance(result, Outcome)
    assert (result.scores, result.usage.score_calls) == ((0.5, 0.25), 2)


def test_an_invalid_step_is_retried_at_higher_temperatures() -> None:
    temperatures: list[float] = []

    class Stutter(ScriptedPolicy):
        async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
            temperatures.append(round(sampling.temperature, 3))
            text = "" if sampling.attempt < 3 else "Step 1: The final answer is: 2."
            return await ScriptedPolicy({"": {text: 1.0}}).propose(prompt, n, sampling)

    policy = Stutter({})
    (result,) = runner(Grove({}, {}, {}), quick(), policy, settings=settings(temperature=0.2)).run([question()])
    assert isinstance(result, Outcome)
    assert result.answer == "2"
    assert temperatures == [0.2, 0.3, 0.4, 0.5]
    assert sum(node.rejected is not None for node in result.nodes) == 1  # one empty step, drawn three times


def test_of_several_steps_in_one_reply_the_first_is_kept_even_if_the_last_was_cut() -> None:
    class Verbose(ScriptedPolicy):
        async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
            proposal = await super().propose(prompt, n, sampling)
            return replace(proposal, steps=tuple(replace(step, finish="length") for step in proposal.steps))

    first, final = "Step 1: Look.", "Step 2: The final answer is: 7."
    policy = Verbose({"": {f"{first}\nStep 2: Look aga": 1.0}, first: {f"{final}\nStep 3: Hm": 1.0}})
    (result,) = runner(Grove({}, {}, {}), quick(), policy).run([question()])
    assert isinstance(result, Outcome)
    assert (result.steps, result.answer) == ((first, final), "7")


def test_a_step_cut_at_the_token_limit_is_invalid() -> None:
    grove = Grove({"": {"Step 1: one two three four five.": 1.0}}, {}, {})
    plain = settings()
    short = replace(plain, retries=0, sampling=replace(plain.sampling, max_tokens=3))
    (result,) = runner(grove, quick(), settings=short).run([question()])
    assert isinstance(result, Outcome)
    assert (result.stopped, result.nodes[0].rejected) == ("invalid", "cut at the token limit")


def test_a_node_without_any_valid_step_ends_its_path_as_invalid() -> None:
    grove = Grove({"": {"Step 1: Look.": 1.0}, "Step 1: Look.": {"": 1.0}}, {}, {})
    (result,) = runner(grove, quick(), settings=replace(settings(), retries=2)).run([question()])
    assert isinstance(result, Outcome)
    assert (result.stopped, result.steps, result.usage.policy_calls) == ("invalid", ("Step 1: Look.",), 4)


def test_a_slow_vote_does_not_block_other_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    voting_now, gone_on = threading.Event(), threading.Event()

    def slow(answers: Sequence[str]) -> list[list[int]]:
        voting_now.set()
        assert gone_on.wait(10)
        return group(answers)

    class Waits(ScriptedPolicy):
        async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
            while prompt.session == "q1" and not voting_now.is_set():
                await asyncio.sleep(0)
            if prompt.session == "q1":
                gone_on.set()
            return await super().propose(prompt, n, sampling)

    monkeypatch.setattr(voting, "group", slow)
    policy = Waits({"": {"Step 1: The final answer is: 1.": 1.0}})
    results = runner(Grove({}, {}, {}), majority(2), policy).run(QUESTIONS[:2])
    assert [getattr(result, "answer", None) for result in results] == ["1", "1"]


def test_a_run_works_inside_a_running_event_loop() -> None:
    grove = Grove({"": {"Step 1: The final answer is: 1.": 1.0}}, {}, {})

    async def notebook() -> list[Result]:
        return runner(grove, quick()).run([question()])

    (result,) = asyncio.run(notebook())
    assert isinstance(result, Outcome)


def test_the_journal_is_keyed_by_the_settings(tmp_path: FilePath) -> None:
    folders = []
    for seed in (1, 2, 1):
        with contextlib.closing(journal(tmp_path, seed=seed)) as opened:
            folders.append(opened.folder)
    assert folders[0] == folders[2] != folders[1]
