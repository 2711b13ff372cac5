"""Questions with a history of steps, which the search continues."""

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


def test_rollouts_and_searches_start_after_the_history() -> None:
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


def test_a_history_with_a_final_answer_needs_no_calls() -> None:
    policy = ScriptedPolicy({})
    (result,) = replace(runner(Continue()), policy=policy).run([given("Step 1: The answer is 3.")])
    assert isinstance(result, Outcome)
    assert (result.answer, result.stopped, policy.calls) == ("3", "final", [])


def test_formats_of_whole_replies_refuse_a_history() -> None:
    (result,) = runner(Direct()).run([given(FIRST)])
    assert isinstance(result, Failure)
    assert "thinking=direct" in result.reason


def test_the_journal_distinguishes_histories() -> None:
    keys = {given(*history).key for history in ((), (FIRST,), (FIRST, "Step 2: Go left."))}
    assert len(keys) == 3


@pytest.mark.slow
@pytest.mark.parametrize("format", ["continue", "atomic"])
def test_a_model_continues_its_own_steps_as_in_one_run(format: str) -> None:
    model = build(plan("transformers", {"thinking": "quick", "format": format}, TINY_ARGUMENTS))
    asked = engine_questions(held_out(4))
    whole = [result.steps for result in model.run(asked) if isinstance(result, Outcome)]
    cut = [replace(item, history=steps[:2]) for item, steps in zip(asked, whole, strict=True)]
    resumed = [result.steps for result in model.run(cut) if isinstance(result, Outcome)]
    assert [SEPARATOR.join(steps) for steps in resumed] == [SEPARATOR.join(steps) for steps in whole]
