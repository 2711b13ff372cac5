"""Questions that give the first steps: thinking goes on from there."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from atomthink_plugin.api import Failure, Format, Outcome, Question
from atomthink_plugin.config import plan
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.formats.direct import Direct
from atomthink_plugin.formats.steps import SEPARATOR
from atomthink_plugin.model_adapters.tiny import TINY_ARGUMENTS
from atomthink_plugin.runtime.build import build
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.searches.beam import beam
from atomthink_plugin.searches.quick import quick
from atomthink_plugin.tasks.demo.engine_questions import engine_questions
from atomthink_plugin.tasks.demo.questions import held_out
from atomthink_plugin.testing import ScriptedPolicy, ScriptedScorer
from tests.trees import question, question_tree, settings

FIRST = "Step 1: Look."
TREE = {
    FIRST: {"Step 2: Go left.": 0.5, "Step 2: Go right.": 0.5},
    f"{FIRST}\n\nStep 2: Go left.": {"Step 3: The answer is 1.": 1.0},
    f"{FIRST}\n\nStep 2: Go right.": {"Step 3: The answer is 2.": 1.0},
}


def given(*history: str) -> Question:
    return replace(question(), history=history)


def runner(format: Format) -> Runner:
    return Runner(ScriptedPolicy(TREE), None, format, quick(), settings())


def test_rollouts_and_searches_start_behind_the_given_steps() -> None:
    tree = question_tree(ScriptedPolicy(TREE), asked=given(FIRST))
    paths = asyncio.run(tree.rollouts(8))
    assert {path.answer for path in paths} == {"1", "2"}
    assert all(path.steps[0].text == FIRST and path.depth == 3 for path in paths)
    policy = ScriptedPolicy(TREE, exhaustive=True)
    scorer = ScriptedScorer(lambda history: 0.9 if "right" in history else 0.1)
    tree = question_tree(policy, scorer, asked=given(FIRST))
    choice = asyncio.run(beam()(tree))
    assert choice.path.answer == "2"
    assert tree.outcome(choice).steps == (FIRST, "Step 2: Go right.", "Step 3: The answer is 2.")


def test_given_steps_that_conclude_leave_nothing_to_do() -> None:
    policy = ScriptedPolicy({})
    (result,) = replace(runner(Continue()), policy=policy).run([given("Step 1: The answer is 3.")])
    assert isinstance(result, Outcome)
    assert (result.answer, result.stopped, policy.calls) == ("3", "final", [])


def test_whole_replies_cannot_go_on_from_steps() -> None:
    (result,) = runner(Direct()).run([given(FIRST)])
    assert isinstance(result, Failure)
    assert "thinking=direct" in result.reason


def test_the_journal_tells_histories_apart() -> None:
    keys = {given(*history).key for history in ((), (FIRST,), (FIRST, "Step 2: Go left."))}
    assert len(keys) == 3


@pytest.mark.parametrize("format", ["continue", "atomic"])
def test_a_model_goes_on_from_its_own_steps_as_if_it_had_just_written_them(format: str) -> None:
    model = build(plan("transformers", {"thinking": "quick", "format": format}, TINY_ARGUMENTS))
    asked = engine_questions(held_out(4))
    whole = [result.steps for result in model.run(asked) if isinstance(result, Outcome)]
    cut = [replace(item, history=steps[:2]) for item, steps in zip(asked, whole, strict=True)]
    resumed = [result.steps for result in model.run(cut) if isinstance(result, Outcome)]
    assert [SEPARATOR.join(steps) for steps in resumed] == [SEPARATOR.join(steps) for steps in whole]
