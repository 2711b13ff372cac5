"""Lists of parts, and chains for a question with more text after it."""

from __future__ import annotations

import asyncio

import pytest

from atomthink_plugin.api import Prompt, QuestionError, ServerError, Step
from atomthink_plugin.searches.parts.subquestions import answers, furthest, listed
from atomthink_plugin.searches.quick import quick
from tests.searches.ballots import text_of
from tests.searches.scripted_replies import ScriptedReplies
from tests.trees import question_tree, settings


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("1. Read the red bar.\n2. Read the blue bar.", ["Read the red bar.", "Read the blue bar."]),
        ("The parts:\n\n 1) Read red\n\n 2) Read blue\n\nThat is all.", ["Read red", "Read blue"]),
        ("Part 1: Read red.\n**Part 2:** Read blue.\n**Part 3: Add.**", ["Read red.", "Read blue.", "Add."]),
        ("- 1. How many?\n- 2. How tall?", ["How many?", "How tall?"]),
        ("Sub-question 1: How many?\nsubquestion 2. How tall?", ["How many?", "How tall?"]),
        ("1. Read red.\n2. Read red.", ["Read red."]),
        ("1.5 is the height.\n2024 was a year.", []),
        ("Step 1: Read red = 4.\n\nStep 2: Read blue = 7.", []),
        ("1. **\n2.\n3. ", []),
        ("The red bar is read first.", []),
        ("", []),
    ],
)
def test_numbered_lines_are_items(text: str, items: list[str]) -> None:
    assert listed(text) == items


def two_steps(prompt: Prompt, index: int, seed: int) -> str:
    """Chains of two steps that state the last word of their question."""
    word = text_of(prompt).split("\n")[0].split()[-1]
    return f"Step 2: The final answer is: {word}." if prompt.begun else f"Step 1: Think of {word}."


def test_chains_answer_the_question_with_each_text_after_it() -> None:
    policy = ScriptedReplies(two_steps)
    tree = question_tree(policy)
    paths = asyncio.run(answers(tree, [" or red", "", " or blue"]))
    assert [path.answer for path in paths] == ["red", "q?", "blue"]
    assert paths[1].question == tree.question
    assert [len(prompt.begun) for prompt in policy.asked] == [0] * 3 + [1] * 3


def test_a_chain_without_further_text_is_the_quick_chain() -> None:
    tree, other = question_tree(ScriptedReplies(two_steps)), question_tree(ScriptedReplies(two_steps))
    (path,) = asyncio.run(answers(tree, [""]))
    assert path.key == asyncio.run(quick()(other)).path.key


def test_a_role_writes_the_chains() -> None:
    policy, composer = ScriptedReplies(two_steps), ScriptedReplies(two_steps)
    (path,) = asyncio.run(answers(question_tree(policy, composer=composer), [" or red"], role="composer"))
    assert [step.role for step in path.steps] == ["composer"] * 2
    assert policy.asked == []


@pytest.mark.parametrize("error", [QuestionError("too long"), ServerError("the server is gone")])
def test_a_full_context_gives_no_chains_and_a_lost_server_is_an_error(error: QuestionError) -> None:
    def write(prompt: Prompt, index: int, seed: int) -> str | Step:
        if "red" in text_of(prompt):
            raise error
        return two_steps(prompt, index, seed)

    tree = question_tree(ScriptedReplies(write))
    if isinstance(error, ServerError):
        with pytest.raises(ServerError):
            asyncio.run(answers(tree, [" or blue", " or red"]))
    else:
        assert asyncio.run(answers(tree, [" or blue", " or red"])) == []


def test_the_furthest_chain_is_the_last_one_with_an_answer_else_with_a_step() -> None:
    tree = question_tree(ScriptedReplies(two_steps), limits=settings(max_steps=9))
    first, second = asyncio.run(answers(tree, [" or red", " or blue"]))
    root, half = tree.root, first.lineage[0]
    assert furthest([first, second, half, root]) is second
    assert furthest([half, root]) is half
    assert furthest([root]) is root
