"""A chain's final answer in the form that a prompt asks for."""

from __future__ import annotations

import pytest

from atomthink_plugin.api import Message, Outcome, Question, Sampling
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.formats.task_form import in_task_form
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.runtime.settings import Settings
from atomthink_plugin.searches.quick import quick
from atomthink_plugin.testing import ScriptedPolicy

CHAIN = "Step 1: 2 + 3 = 5.\n\nStep 2: To sum up, the final answer is: "


@pytest.mark.parametrize(
    ("stated", "answer", "ending"),
    [
        ("5.", "5", r"\boxed{5}."),
        ("-5.", "-5", r"\boxed{-5}."),
        ("$\\frac{1}{2}$.", "\\frac{1}{2}", r"$\boxed{\frac{1}{2}}$."),
        ("(A) Apple.", "A", r"(\boxed{A}) Apple."),
        (r"\boxed{5}.", "5", r"\boxed{5}."),
        ("\n$$\\boxed{ 5 }$$\nDone.", "5", "\n$$\\boxed{ 5 }$$\nDone."),
        ("five.", "5", r"five. The final answer is: \boxed{5}."),
    ],
)
def test_the_answer_is_boxed_where_the_prompt_asks_for_it(stated: str, answer: str, ending: str) -> None:
    asked = r'put your answer in one "\boxed{}".'
    assert in_task_form(CHAIN + stated, answer, asked) == CHAIN + ending
    assert in_task_form(CHAIN + stated, answer, "Be brief.") == CHAIN + stated


def test_a_box_on_the_way_is_not_the_answers() -> None:
    asked = r"Use \boxed{}."
    assert in_task_form(r"\boxed{2}" + "\nIt is 5.", "5", asked).endswith(r"answer is: \boxed{5}.")
    assert in_task_form("\\boxed{2}\n" + CHAIN + "5.", "5", asked).endswith(r"is: \boxed{5}.")


def test_a_prompt_that_asks_for_an_answer_tag_gets_it() -> None:
    asked = "the final answer enclosed in <answer>...</answer> tags"
    assert in_task_form(CHAIN + "5.", "5", asked) == CHAIN + "5.\n<answer>5</answer>"


def test_a_chain_without_an_answer_stays_as_it_is() -> None:
    assert in_task_form("Step 1: Hm.", None, r"\boxed{} and <answer>") == "Step 1: Hm."


@pytest.mark.parametrize("direct", [True, False])
def test_a_run_answers_in_the_tasks_form_unless_it_answers_directly(direct: bool) -> None:
    """The form is asked for by any turn: a system turn may do it."""
    policy = ScriptedPolicy({"": {"Step 1: 2 + 3 = 5. The final answer is: 5.": 1.0}})
    runner = Runner(policy, None, Continue(), quick(), Settings(Sampling()))
    turns = (Message("system", (r"Use \boxed{}.",)), Message("user", ("2 + 3?",)))
    (result,) = runner.run([Question("q", turns, direct=direct)])
    assert isinstance(result, Outcome)
    assert result.text.endswith("5." if direct else r"\boxed{5}.")
    assert result.answer == "5"
