"""A search on the slots engine that was ended goes on from its journal to the result of one that was not."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any

import pytest

from atomthink_plugin.api import Format, Outcome, Policy, Prompt, Proposal, Sampling, Scorer
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.formats.mini import Mini
from atomthink_plugin.model_adapters.transformers_policy import TransformersPolicy
from atomthink_plugin.runtime.journal import Journal
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.runtime.settings import Settings
from atomthink_plugin.scorers.prm_token import prm_token
from atomthink_plugin.searches.beam import beam
from tests.tiny_models import folder, llava, loaded, picture, question, qwen

QUESTIONS = [
    question("How many?", picture(0), name="a"),
    question("What is two plus two plus one?", picture(1, (90, 40)), name="b"),
    question("Text alone: what is one plus one?", name="c"),
]


class Killed(BaseException):
    """Ends a run as a signal does: nothing in it catches this."""


@dataclass
class Counted:
    """A policy that counts its calls and ends the run at one of them."""

    policy: Policy
    last: int | None = None
    calls: int = 0

    @property
    def identity(self) -> str:
        """That of the policy."""
        return self.policy.identity

    async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        self.calls += 1
        if self.calls == self.last:
            raise Killed
        return await self.policy.propose(prompt, n, sampling)


def slots(build: Any, last: int | None = None) -> Counted:
    policy = TransformersPolicy(loaded(build))
    assert policy.decoding == "slots"
    return Counted(policy, last)


def scorer(**arguments: Any) -> Scorer:
    tags = {"format": "continue", "tag": "</s>", "good": "<+>", "bad": "<->"}
    return prm_token(str(folder(llava)), device="cpu", **tags, **arguments)


def searched(form: Format, policy: Policy, prm: Scorer, journal: Journal | None = None, concurrency: int = 3) -> Any:
    """The reply to each question, its steps, the tree, and all scores and log-probabilities."""
    settings = Settings(Sampling(temperature=1.0, max_tokens=6), max_steps=3, retries=2)
    runner = Runner(policy, prm, form, beam(2, 2), settings, journal, concurrency, trees=True)
    return [found(outcome) for outcome in runner.run(QUESTIONS)]


def found(outcome: Any) -> tuple[Any, ...]:
    assert isinstance(outcome, Outcome), outcome
    nodes = sorted(outcome.nodes, key=lambda one: one.id)
    numbers = [outcome.value, *outcome.scores, *(number for one in nodes for number in (one.score, one.logprob))]
    return outcome.text, outcome.steps, [replace(one, score=None, logprob=None) for one in nodes], numbers


@pytest.mark.parametrize(("form", "build"), [(Continue(), llava), (Mini(mini_tokens=5), qwen)])
def test_a_resumed_search_finds_what_an_uninterrupted_one_finds(form: Format, build: Any, tmp_path: FilePath) -> None:
    alone = TransformersPolicy(loaded(build), cache_gib=0, batch_size=1)
    expected = searched(form, alone, scorer(cache_gib=0, batch_size=1), concurrency=1)
    expected = [(*exact, pytest.approx(numbers, abs=1e-3)) for *exact, numbers in expected]
    whole = slots(build)
    assert searched(form, whole, scorer()) == expected

    for last in (whole.calls // 2, 2):
        with closing(Journal(tmp_path, "run", {})) as journal, pytest.raises(Killed):
            searched(form, slots(build, last), scorer(), journal)
    with closing(Journal(tmp_path, "run", {})) as journal:
        resumed = slots(build)
        assert searched(form, resumed, scorer(), journal) == expected
    assert 0 < resumed.calls < whole.calls
