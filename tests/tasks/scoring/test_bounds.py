"""No response breaks the judges, and errors name a missing column."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.tasks.scoring.judges import judge
from atomthink_plugin.tasks.scoring.text import MAX_HEAD, MAX_TAIL

from .records import verse, vision, vista

Benchmark = Literal["mathvista", "mathverse", "mathvision"]
ASKED: list[tuple[Benchmark, dict[str, Any]]] = [
    ("mathvista", vista("There are (_) dots in each group of 9 dots.", "3")),
    ("mathvista", vista("Find d.", "1.2", answer_type="float", precision=1)),
    ("mathvista", vista("Which years?", "[1, 2]", answer_type="list")),
    ("mathvista", vista("Is red greater than blue?", "yes", ["yes", "no"])),
    ("mathvista", vista("Find x.", "3", ["1", "2√{3}", "3", "$\\frac{1}{2}$"])),
    ("mathvision", vision("Find x.", "\\frac{1}{60}")),
    ("mathvision", vision("Find x.", "A", ["$x^2$", "4 m", "$\\sqrt{2}$"])),
    ("mathverse", verse("Find it.", "Area $=9 \\pi \\mathrm{cm}^{2}$")),
    ("mathverse", verse("Which?\nChoices:\nA:1\nB:2", "B", "multi-choice")),
]
BAIT = [
    "9", "(", "\\boxed{", "\\frac{", "\\sqrt{", "$", "**", "9^", "1,234,", "(A) ", "= 1 ", "is 5 ", "answer is ",
    "The correct answer for ", "\n", " ", ".", "-", "1/", "5 to 6 ", "[1, ", "\u202e5", "\ud800", "\x00", "\u0301",
    "答案", "than ", "\\text{", "^{\\circ", "9e9", "_", "how I got the answer: ", "yes no ",
]  # fmt: skip
MONSTERS = [
    "9^9^9^9", "9^{9^{9^{9}}}", "10**10**10", "100000!", "1e999999999", "\\binom{10^6}{10^5}",
    "(((9^{99})^{99})^{99})^{99}",
    "\\sum_{n=1}^{10^9} n", "(" * 90, "(1+" * 20 + "x" + ")" * 20, "\\frac{1}{" * 12 + "2" + "}" * 12, "1/" * 45 + "0",
    "x^{" * 20 + "x" + "}" * 20, "\\sqrt{" * 14 + "x" + "}" * 14, "{" * 40 + "}" * 40, "x<y" * 25, "-" * 90 + "x",
]  # fmt: skip
WORDS = st.sampled_from(
    ["The answer is", "(A)", "B", "\\boxed{", "}", "\\frac{1}{2}", "3", "1.2", "[1, 2]", "=", "\n", "so",
    "is", "5 to 6",
     "**", "yes", "no", "not", "than", "$x^2$", "°", "cm", "^", "2√{3}", "I cannot see", "Choices:", "答案是",
     "\x00", "\ud800"]
)  # fmt: skip
RESPONSES = st.one_of(st.text(max_size=80), st.lists(WORDS, max_size=14).map(" ".join))


@pytest.mark.slow
@pytest.mark.parametrize(("benchmark", "question"), ASKED)
@pytest.mark.parametrize("bait", BAIT)
def test_a_megabyte_is_judged(benchmark: Benchmark, question: dict[str, Any], bait: str) -> None:
    verdict = judge(benchmark, question, bait * (10**6 // len(bait)))
    assert len(verdict.extracted or "") <= MAX_HEAD + MAX_TAIL + len("\n\n")


@pytest.mark.parametrize(("benchmark", "question"), ASKED)
@pytest.mark.parametrize("monster", MONSTERS)
def test_what_algebra_would_hang_on_is_wrong(benchmark: Benchmark, question: dict[str, Any], monster: str) -> None:
    for response in (monster, f"\\boxed{{{monster}}}", f"The answer is {monster}"):
        assert judge(benchmark, question, response).normalized != question["answer"]


def test_both_ends_of_a_long_response_are_read() -> None:
    filling = "Let me think about it again. " * 4000
    for response in (f"The answer is 3.\n{filling}", f"{filling}\nThe answer is 3."):
        assert judge(*ASKED[0], response).correct


@settings(max_examples=150)
@given(RESPONSES, st.sampled_from(ASKED), st.sampled_from([" ", "\n", "\t\n ", "\u3000"]))
def test_any_response_gets_one_verdict(response: str, asked: tuple[Benchmark, dict[str, Any]], space: str) -> None:
    verdict = judge(*asked, response)
    assert verdict == judge(*asked, response)
    assert verdict == judge(*asked, space + response + space)
    assert (verdict.rule == "none") == (verdict.extracted is None)
    assert verdict.normalized is not None or not verdict.correct


@given(RESPONSES, st.sampled_from(ASKED))
def test_the_reference_does_not_change_what_is_extracted(
    response: str, asked: tuple[Benchmark, dict[str, Any]]
) -> None:
    benchmark, question = asked
    ours, other = judge(benchmark, question, response), judge(benchmark, question | {"answer": "17"}, response)
    assert (ours.extracted, ours.normalized, ours.rule) == (other.extracted, other.normalized, other.rule)


def test_verdicts_are_the_same_from_many_threads() -> None:
    responses = [f"\\boxed{{(x+{n})^2}}" for n in range(12)]
    question = vision("Expand.", "x^2+2x+1")
    with ThreadPoolExecutor(4) as pool:
        verdicts = list(pool.map(lambda response: judge("mathvision", question, response).correct, responses))
    assert verdicts == [n == 1 for n in range(12)]


@pytest.mark.parametrize(
    ("benchmark", "name"),
    [("mathvista", "choices"), ("mathvista", "answer"), ("mathvision", "options"), ("mathverse", "question_type")],
)
def test_a_missing_column_is_named(benchmark: Benchmark, name: str) -> None:
    question = {**next(record for owner, record in ASKED if owner == benchmark)}
    del question[name]
    with pytest.raises(AtomThinkError, match=f"'{name}'.*{benchmark}"):
        judge(benchmark, question, "3")


@pytest.mark.parametrize("empty", [None, float("nan"), []])
def test_empty_fields_are_no_options(empty: Any) -> None:
    question = vista("How many?", "3", unit=float("nan"), precision=float("nan")) | {"choices": empty}
    assert judge("mathvista", question, "3").correct


def test_an_unknown_benchmark_is_named() -> None:
    with pytest.raises(AtomThinkError, match="benchmark='mathvid'"):
        judge("mathvid", {}, "3")  # type: ignore[arg-type]
