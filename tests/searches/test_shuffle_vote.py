"""Voting over options in balanced orders: a model's preference for places cancels out."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from string import ascii_uppercase

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from atomthink_plugin.api import Choice, Message, Outcome, Prompt, Question, Step
from atomthink_plugin.model_adapters.answer_options import answer_options
from atomthink_plugin.searches.majority import majority
from atomthink_plugin.searches.parts.options import (
    in_original_order,
    latin_square,
    letter_of,
    refer_to_positions,
    reordered,
)
from atomthink_plugin.searches.shuffle_vote import shuffle_vote
from tests.searches.scripted_replies import ScriptedReplies
from tests.trees import Grove, groves, question_tree, settings, tree_of

TEXTS = ("12 cm", "7 cm", "a red cube", "30", "north", "x+1")


def mcq(texts: Sequence[str] = TEXTS[:4], stem: str = "Which one?", id: str = "q") -> Question:
    listed = "\n".join(f"{letter}. {text}" for letter, text in zip(ascii_uppercase, texts, strict=False))
    return Question(id, (Message("user", (f"{stem}\n{listed}\nAnswer with the letter.",)),), tuple(texts))


def options_in(prompt: Prompt) -> list[str]:
    (text,) = (part for part in prompt.messages[-1].parts if isinstance(part, str) and "A." in part)
    return re.findall(r"^[A-Z]\. (.*)$", text, re.MULTILINE)


def answering(answer: Callable[[Sequence[str], int], str]) -> ScriptedReplies:
    """Concludes at once with the answer to the options that it sees, by the index of the sample."""
    return ScriptedReplies(
        lambda prompt, index, seed: f"Step 1: To sum up, the final answer is: {answer(options_in(prompt), index)}."
    )


def vote(policy: ScriptedReplies, n: int, asked: Question, **limits: int) -> Outcome:
    tree = question_tree(policy, asked=asked, limits=settings(**limits))
    return tree.outcome(asyncio.run(shuffle_vote(n)(tree)))


@given(st.integers(1, 9))
def test_a_latin_square_has_each_option_at_each_position_once(size: int) -> None:
    square = latin_square(size)
    assert square[0] == tuple(range(size))
    for line in (*square, *zip(*square, strict=True)):
        assert sorted(line) == list(range(size))


@given(st.integers(2, 6), st.integers(1, 3), st.data())
def test_a_policy_that_prefers_a_position_gets_one_in_m(m: int, blocks: int, data: st.DataObject) -> None:
    """Over all places of the right option, it is right as often as chance; each option has the same votes."""
    position = data.draw(st.integers(0, m - 1))
    policy = answering(lambda options, index: ascii_uppercase[position])
    outcome = vote(policy, m * blocks, mcq(TEXTS[:m]))
    assert outcome.value == pytest.approx(1 / m)
    right = [outcome.answer == ascii_uppercase[place] for place in range(m)]
    assert sum(right) == 1


@given(st.integers(2, 6), st.integers(1, 8), st.data())
@pytest.mark.parametrize("form", ["{letter}", "({letter})", "{letter}. {text}", "{text}"])
def test_a_policy_that_reads_the_options_gets_full_marks(form: str, m: int, n: int, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, m - 1))
    right = TEXTS[place]
    policy = answering(lambda seen, index: form.format(letter=ascii_uppercase[seen.index(right)], text=right))
    outcome = vote(policy, n, mcq(TEXTS[:m]))
    assert outcome.value == pytest.approx(1.0)
    assert outcome.answer == form.format(letter=ascii_uppercase[place], text=right)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_the_votes_are_those_of_a_naive_count(said: list[int]) -> None:
    """Chain i sees the options moved by i places, and says the option at the position `said[i]`."""
    calls = iter(said)
    policy = answering(lambda options, index: ascii_uppercase[next(calls)])
    outcome = vote(policy, len(said), mcq())
    counts = Counter((position + index) % 4 for index, position in enumerate(said))
    assert outcome.value == pytest.approx(max(counts.values()) / len(said))
    assert outcome.answer is not None
    assert counts[ascii_uppercase.index(outcome.answer)] == max(counts.values())


def test_letters_texts_and_both_vote_together() -> None:
    forms = iter(["{letter}. {text}", "{text}", "option {letter}", "({letter})"])
    policy = answering(
        lambda options, index: next(forms).format(letter=ascii_uppercase[options.index("7 cm")], text="7 cm")
    )
    assert vote(policy, 4, mcq()).value == pytest.approx(1.0)


def test_each_order_has_a_tree_and_seeds_of_its_own() -> None:
    policy = answering(lambda options, index: "A")
    outcome = vote(policy, 8, mcq())
    assert [options_in(prompt) for prompt in policy.asked[:4]] == [
        [TEXTS[(position + row) % 4] for position in range(4)] for row in range(4)
    ]
    assert [options_in(prompt) for prompt in policy.asked[4:]] == [options_in(prompt) for prompt in policy.asked[:4]]
    assert len({(sampling.key, sampling.first) for sampling in policy.samplings}) == 8
    assert len({sampling.seed_of(0) for sampling in policy.samplings}) == 8
    roots = {node.parent for node in outcome.nodes}
    assert len(roots) == 4
    notes = {note for node in outcome.nodes if (note := node.note)}
    assert notes == {f"order {'ABCDABC'[row : row + 4]}, vote {'ABCD'[row]}" for row in range(4)}


def test_the_reply_states_the_original_letter() -> None:
    seen = iter(["nothing", "B", "B"])  # the second chain sees BCDA, the third CDAB
    outcome = vote(answering(lambda options, index: next(seen)), 2, mcq())
    assert outcome.answer in ("nothing", "C")
    policy = answering(lambda options, index: ascii_uppercase[options.index("30")] if options[0] != "12 cm" else "x")
    outcome = vote(policy, 4, mcq())
    assert outcome.answer == "D"
    assert outcome.text.endswith("The final answer is: D.")


@given(groves(), st.integers(1, 6))
def test_a_free_form_question_is_plain_voting(grove: Grove, n: int) -> None:
    def result(search: Callable[..., object]) -> tuple[Choice, int]:
        tree = tree_of(grove)
        choice = asyncio.run(search(n)(tree))  # type: ignore[operator]
        return choice, tree.usage.policy_calls

    (shuffled, calls), (plain, plain_calls) = result(shuffle_vote), result(majority)
    assert (shuffled.path.key, shuffled.value, shuffled.stopped) == (plain.path.key, plain.value, plain.stopped)
    assert calls == plain_calls


@pytest.mark.parametrize(
    "asked",
    [
        mcq(("4", "7", "Both A and B", "none")),
        replace(mcq(), choices=("12 cm", "7 cm", "a blue cube", "30")),
        replace(mcq(), history=("Step 1: Option A is too short.",)),
    ],
)
def test_options_that_cannot_be_moved_keep_their_order(asked: Question) -> None:
    policy = answering(lambda options, index: "A")
    outcome = vote(policy, 3, asked)
    assert {tuple(options_in(prompt)) for prompt in policy.asked} == {tuple(options_in(policy.asked[0]))}
    assert (outcome.answer, outcome.value) == ("A", pytest.approx(1.0))
    assert {node.note for node in outcome.nodes} == {"order kept"}


def test_a_given_history_that_concludes_is_the_answer() -> None:
    given = replace(mcq(), history=("Step 1: To sum up, the final answer is: B.",))
    outcome = vote(answering(lambda options, index: "A"), 3, given)
    assert (outcome.answer, outcome.usage.policy_calls) == ("B", 0)


@pytest.mark.parametrize("calls", range(1, 9))
def test_a_spent_budget_ends_the_vote_with_the_chains_so_far(calls: int) -> None:
    def write(prompt: Prompt, index: int, seed: int) -> str:
        if not prompt.begun:
            return "Step 1: Look at the options."
        return f"Step 2: To sum up, the final answer is: {ascii_uppercase[options_in(prompt).index('30')]}."

    policy = ScriptedReplies(write)
    outcome = vote(policy, 4, mcq(), budget_calls=calls)
    assert outcome.usage.policy_calls == calls
    assert outcome.answer == ("D" if calls > 1 else None)
    assert outcome.stopped == ("final" if calls > 1 else "budget")


def test_a_policy_without_probabilities_can_vote() -> None:
    policy = ScriptedReplies(lambda prompt, index, seed: Step("Step 1: To sum up, the final answer is: B."))
    assert vote(policy, 3, mcq()).answer == "B"  # of equal votes, the first chain's


@pytest.mark.parametrize(
    "listed",
    [
        "A. {0}\nB. {1}\nC. {2}",
        "(A) {0}\n(B) {1}\n(C) {2}",
        "Options: A: {0}, B: {1}, C: {2}",
        "A) {0}; B) {1}; C) {2}",
    ],
)
@pytest.mark.parametrize("texts", [("12 cm", "7 cm", "30"), ("$\\frac{1}{2}$", "(1, 2)", "a (red) one")])
def test_only_the_texts_change_places(listed: str, texts: tuple[str, str, str]) -> None:
    image = Image.new("RGB", (2, 2))
    text = "Is B. 7 cm long? {0}\nAnswer with the letter, A. for example."
    turns = (Message("system", ("Be short.",)), Message("user", (image, text.format(listed.format(*texts)), "Now.")))
    asked = Question("q", turns, texts)
    moved = reordered(asked, (2, 0, 1))
    assert moved is not None
    new = (texts[2], texts[0], texts[1])
    assert moved.choices == new
    assert moved.messages == (turns[0], Message("user", (image, text.format(listed.format(*new)), "Now.")))
    assert reordered(asked, (0, 1, 2)) == asked


def test_moved_options_are_read_back_by_the_reader_of_options() -> None:
    for order in latin_square(4):
        moved = reordered(mcq(), order)
        assert moved is not None
        assert answer_options(None, moved.text) == tuple(TEXTS[option] for option in order) == moved.choices


def test_the_last_list_of_options_is_the_one_that_is_asked_about() -> None:
    asked = mcq(("4", "7"), stem="For example:\nA. 4\nB. 7\nNow:")
    moved = reordered(asked, (1, 0))
    assert moved is not None
    assert moved.text == "For example:\nA. 4\nB. 7\nNow:\nA. 7\nB. 4\nAnswer with the letter."


@pytest.mark.parametrize(
    ("text", "refers"),
    [
        ("Both A and B", True),
        ("A or (B)", True),
        ("A & B", True),
        ("None of the above", True),
        ("All of the options", True),
        ("neither", True),
        ("以上都不对", True),
        ("B", True),
        ("(b)", True),
        ("a", True),
        ("$B$", True),
        ("B)", True),
        ("None of these", False),
        ("A dog and a cat", False),
        ("Anna and Bob", False),
        ("points E and F", False),
        ("x", False),
        ("\\frac{A}{B}", False),
    ],
)
def test_options_that_refer_to_others_are_recognized(text: str, refers: bool) -> None:
    assert refer_to_positions(("4", text, "7")) is refers


@pytest.mark.parametrize(
    ("answer", "original", "letter"),
    [
        ("B", "C", "C"),
        ("(B)", "(C)", "C"),
        ("b", "C", "C"),
        ("B. 30", "C. 30", "C"),
        ("option B", "option C", "C"),
        ("\\text{B}", "\\text{C}", "C"),
        ("30", "30", "C"),
        ("A", "B", "B"),
        ("E", "E", "E"),
        ("Bob", "Bob", "Bob"),
        ("31", "31", "31"),
    ],
)
def test_answers_are_mapped_to_the_original_order(answer: str, original: str, letter: str) -> None:
    assert in_original_order(answer, (1, 2, 0)) == original
    assert letter_of(original, ("7 cm", "12 cm", "30")) == letter
