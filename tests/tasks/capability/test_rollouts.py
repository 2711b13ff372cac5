"""Rollouts of scripted policies: counts, starting points and independence."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path as FilePath

import pytest
from PIL import Image

from atomthink_plugin.api import AtomThinkError, Policy, Prompt, Proposal, Sampling, Step, Usage
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.searches.quick import quick
from atomthink_plugin.tasks.capability.estimates import capabilities, step_rates
from atomthink_plugin.tasks.capability.records import StepRecord
from atomthink_plugin.tasks.capability.rollouts import Prefix, PrefixQuestions, measure_prefixes, prefix_questions
from atomthink_plugin.tasks.capability.taxonomy import load_taxonomy
from atomthink_plugin.testing import history_in
from tests.trees import settings

VERBS = ("Read", "Read", "Compute", "Conclude")
ABILITY = {"Read": "Data Extraction", "Compute": "Calculation", "Conclude": "Decision Making"}


def right_step(n: int) -> str:
    """The right step after `n` steps."""
    return "Step 4: The final answer is: 7." if n == 3 else f"Step {n + 1}: {VERBS[n]} part {n} rightly."


CHAIN = tuple(right_step(n) for n in range(4))


@dataclass
class Skilled:
    """Does each kind of step rightly with its own chance; after a wrong step its answer is wrong."""

    skill: dict[str, float]
    identity: str = "skilled"

    async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        return Proposal(tuple(self._step(prompt, sampling.seed_of(i)) for i in range(n)), Usage(policy_calls=n))

    def _step(self, prompt: Prompt, seed: int) -> Step:
        spoilt = "wrongly" in prompt.prefix
        right = random.Random(seed).random() < self.skill[VERBS[prompt.depth]]
        if prompt.depth == 3:
            return Step(f"Step 4: The final answer is: {7 if right and not spoilt else 8}.")
        text = right_step(prompt.depth)
        return Step(text if right else text.replace("rightly", "wrongly"))


@dataclass
class Watching:
    """Records its prompts. An answer always takes two more steps.

    Attributes:
        given: Steps of the prefix.
        asked: The prefix, the steps so far, and the index of the sample, call by call.
    """

    given: int = 0
    asked: list[tuple[str, tuple[str, ...], int]] = field(default_factory=list)
    identity: str = "watching"

    async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        steps = tuple(filter(None, history_in(prompt).split("\n\n")))
        self.asked.append((prompt.session, steps, sampling.first))
        label = f"Step {prompt.depth + 1}:"
        if prompt.depth == self.given:
            return Proposal((Step(f"{label} Think of {sampling.seed_of(0)}."),))
        return Proposal((Step(f"{label} The final answer is: 7."),))


def runner(policy: Policy, **limits: int) -> Runner:
    return Runner(policy, None, Continue(), quick(), settings(**limits))


def records(chains: int) -> list[StepRecord]:
    return [
        StepRecord(
            id=f"c{c}/{n}", chain=f"c{c}", question="How many?", answer="7.0", history=CHAIN[:n], ability=ABILITY[verb]
        )
        for c in range(chains)
        for n, verb in enumerate(VERBS, 1)
    ]


def prefix(history: tuple[str, ...], chain: str = "c", images: tuple[str, ...] = ()) -> Prefix:
    identity = f"{chain}/{len(history)}"
    return Prefix(id=identity, question="How many?", images=images, chain=chain, answer="7", history=history)


def given(history: tuple[str, ...]) -> PrefixQuestions:
    return PrefixQuestions([prefix(history)], FilePath())


@pytest.mark.slow
@pytest.mark.parametrize(
    "skill",
    [
        {"Read": 0.95, "Compute": 0.6, "Conclude": 1.0},
        {"Read": 0.4, "Compute": 0.9, "Conclude": 0.8},
    ],
)
def test_the_estimates_find_the_skills_of_a_policy(skill: dict[str, float]) -> None:
    made = records(40)
    measured = measure_prefixes(prefix_questions(made, FilePath()), runner(Skilled(skill)), 15)
    rows = {row.name: row for row in capabilities(step_rates(made, measured), load_taxonomy())}
    for verb, chance in skill.items():
        quality = rows[ABILITY[verb]].quality
        assert quality is not None
        assert quality.value == pytest.approx(chance, abs=0.08)
        assert quality.low - 0.03 <= chance <= quality.high + 0.03


def test_no_rollout_sees_what_another_one_wrote() -> None:
    m, history = 6, CHAIN[:2]
    policy = Watching(given=2)

    measured = measure_prefixes(given(history), runner(policy), m)
    assert measured["c", 2].share == 1.0
    starts = [ask for ask in policy.asked if len(ask[1]) == 2]
    assert starts == [("c/2", history, i) for i in range(m)]
    goings_on = [ask[1] for ask in policy.asked if len(ask[1]) == 3]
    assert len(policy.asked) == 2 * m
    assert len(set(goings_on)) == m  # a seed of its own for each
    assert all(steps[:2] == history for steps in goings_on)


def test_a_concluded_prefix_is_right_without_asking() -> None:
    policy = Watching()
    measured = measure_prefixes(given(CHAIN), runner(policy), 5)
    assert (measured["c", 4].share, measured["c", 4].concluded, policy.asked) == (1.0, True, [])


def test_a_chain_that_never_concludes_is_wrong() -> None:
    @dataclass
    class Rambling:
        identity: str = "rambling"

        async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
            return Proposal((Step(f"Step {prompt.depth + 1}: Go on to {prompt.depth}."),))

    measured = measure_prefixes(given(()), runner(Rambling(), max_steps=5), 3)
    assert (measured["c", 0].share, measured["c", 0].concluded) == (0.0, False)


def test_the_prefixes_of_a_record_are_its_own_one_shorter_and_the_control() -> None:
    needed = prefix_questions([records(1)[2]], FilePath("pictures"))
    assert [prefix.history for prefix in needed.prefixes] == [(), CHAIN[:2], CHAIN[:3]]
    assert len(prefix_questions(records(2), FilePath())) == 10


def test_records_of_one_chain_that_contradict_each_other_are_refused() -> None:
    one, two, *_ = records(1)
    other = two.model_copy(update={"history": ("Step 1: Look elsewhere.", CHAIN[1])})
    with pytest.raises(AtomThinkError, match=r"c0/2.*'c0'"):
        prefix_questions([one, other], FilePath())


def test_a_broken_picture_fails_its_prefix_and_no_other(tmp_path: FilePath) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    Image.new("RGB", (4, 4)).save(tmp_path / "whole.png")
    prefixes = [prefix((), name, images=(f"{name}.png",)) for name in ("broken", "whole")]
    measured = measure_prefixes(PrefixQuestions(prefixes, tmp_path), runner(Watching()), 2)
    assert measured["broken", 0].share is None
    assert "broken/0" in measured["broken", 0].reason
    assert measured["whole", 0].share == 1.0


def test_a_history_that_fills_the_context_is_a_failure_not_a_wrong_answer() -> None:
    @dataclass
    class Full:
        identity: str = "full"

        async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
            return Proposal(())

    measured = measure_prefixes(given(CHAIN[:1]), runner(Full()), 2)
    assert measured["c", 1].share is None
    assert "c/1" in measured["c", 1].reason
