"""The shipped weights fit the shipped figures, tokenizer and formats: floors far below what is measured."""

from __future__ import annotations

import asyncio
from statistics import fmean

import pytest

from atomthink_plugin.api import Outcome, Path, Step
from atomthink_plugin.config import plan
from atomthink_plugin.model_adapters.tiny import TINY_ARGUMENTS
from atomthink_plugin.runtime.build import build
from atomthink_plugin.tasks.demo.engine_questions import engine_questions, right_answers
from atomthink_plugin.tasks.demo.questions import held_out
from atomthink_plugin.training.tiny.labels import verdicts

pytestmark = pytest.mark.slow


DEMO = held_out(60)


@pytest.fixture(scope="module")
def answered() -> list[Outcome]:
    runner = build(plan("transformers", {"thinking": "quick"}, TINY_ARGUMENTS))
    results = runner.run(engine_questions(DEMO))
    return [result for result in results if isinstance(result, Outcome)]


def test_the_policy_solves_what_it_was_trained_for(answered: list[Outcome]) -> None:
    assert len(answered) == len(DEMO)
    assert sum(right_answers(DEMO, answered)) > 0.25 * len(DEMO)


def test_the_prm_scores_right_steps_above_wrong_ones(answered: list[Outcome]) -> None:
    scorer = build(plan("transformers", {"thinking": "slow"}, TINY_ARGUMENTS)).scorer
    assert scorer is not None
    paths = [Path(question) for question in engine_questions(DEMO)]
    scores: dict[bool, list[float]] = {True: [], False: []}

    async def judge() -> None:
        for path, outcome, item in zip(paths, answered, DEMO, strict=True):
            node = path
            for text, verdict in zip(outcome.steps, verdicts(item, outcome.steps), strict=True):
                node = node.extend(Step(text), outcome.answer if text == outcome.steps[-1] else None)
                scores[verdict].append((await scorer.score(node)).value)

    asyncio.run(judge())
    assert len(scores[False]) > 10
    assert fmean(scores[True]) > fmean(scores[False]) + 0.3
