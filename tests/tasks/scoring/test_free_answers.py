"""MATH-Vision and MathVerse: options by letter, free answers by equality."""

from __future__ import annotations

import pytest

from atomthink_plugin.tasks.scoring.arithmetic import value
from atomthink_plugin.tasks.scoring.equality import same
from atomthink_plugin.tasks.scoring.judges import judge
from atomthink_plugin.tasks.scoring.mathverse import split_choices

from .records import verse, vision

AREA = vision(
    "Find the area.", "B", ["$3 \\mathrm{~cm}^{2}$", "$\\frac{7}{2} \\mathrm{~cm}^{2}$", "$5\\sqrt{2}$", "1:4"]
)
TWO = "Choose 2 answers:\nChoices:\nA:sin\nB:cos\nC:tan\nD:cot"


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("The answer is \\textbf{(B)}.", "B"),
        ("$\\boxed{\\text{(B) } 3.5}$", "B"),
        ("The area is $\\boxed{\\frac72}$.", "B"),
        ("The area is $\\boxed{3.5 \\text{ cm}^2}$.", "B"),
        ("The area is \\boxed{3}.", "A"),
        ("The answer is: \\sqrt{50}", "C"),
        ("The ratio is $\\boxed{\\frac{1}{4}}$.", "D"),
        ("The area is $\\boxed{12}$, far from $3$.", None),
        ("\\boxed{A, B, C, D}", None),
        ("The answer is (A) and (B).", None),
    ],
)
def test_vision_options(response: str, letter: str | None) -> None:
    verdict = judge("mathvision", AREA, response)
    assert (verdict.normalized, verdict.correct) == (letter, letter == "B")


@pytest.mark.parametrize(
    ("answer", "response", "correct"),
    [
        ("60", "So the sum is $\\boxed{60}$.", True),
        ("60", "It is $60^\\circ$.", True),
        ("60", "There are 60 of them, after 12 steps.\nThe answer is: 61", False),
        ("48\\pi", "The volume is $72 - 24 = 48\\pi$. The answer is: 48\\pi", True),
        ("\\frac{1}{2}", "0.5", True),
        ("x^2+2x+1", "\\boxed{(x+1)^2}", True),
        ("2", "", False),
    ],
)
def test_vision_free_answers(answer: str, response: str, correct: bool) -> None:
    assert judge("mathvision", vision("Find it.", answer), response).correct is correct


@pytest.mark.parametrize(
    ("answer", "response", "correct"),
    [
        ("C", "Step 1: 65°.\n\nThe answer is (C).", True),
        ("C", "The final answer is: 65 degrees.", True),
        ("(C)", "C:65°", True),
        ("65°", "C", True),
        ("C", "B", False),
    ],
)
def test_verse_options_are_part_of_the_text(answer: str, response: str, correct: bool) -> None:
    question = verse("Find angle 2.\nChoices:\nA:50°\nB:60°\nC:65°\nD:90°", answer, "multi-choice")
    assert judge("mathverse", question, response).correct is correct


def test_verse_choices_in_other_layouts() -> None:
    assert split_choices("Which?\nChoice:\nA. True\nB. False") == ("Which?", ("True", "False"))
    assert split_choices("Find x.") == ("Find x.", ())


@pytest.mark.parametrize(("response", "correct"), [("A and C", True), ("The answer is C, A.", True), ("A", False)])
def test_verse_questions_with_two_answers(response: str, correct: bool) -> None:
    assert judge("mathverse", verse(TWO, "A\nC", "multi-choice"), response).correct is correct


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("113.1 cm^2", "Area $=113.1 \\mathrm{~cm}^{2}$"),
        ("113.097", "Area $=113.1 \\mathrm{~cm}^{2}$"),
        ("9π", "Area $=9 \\pi \\mathrm{cm}^{2}$"),
        ("28.2743338823", "9\\pi"),
        ("C = 40.84", "$C=40.84 \\mathrm{~cm}$"),
        ("5", "$5=s$"),
        ("60", "60^\\circ"),
        ("118° T", "118掳T"),
        ("(2, -2)", "(2,-2)"),
        ("y = -2x + 5", "y=-2 x+5"),
        ("-2x+5", "y=-2 x+5"),
        ("[-4, 0) and (-3, 1]", "domain: [-4, 0) and range: (-3, 1]"),
        ("Bugs Bunny", "Bugs Bunny"),
        ("-4.9", "-4.9\n-4.9"),
        ("3\\frac{1}{2}", "3.5"),
    ],
)
def test_the_same_in_another_dress(answer: str, reference: str) -> None:
    assert same(answer, reference)


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("36", "35.7"),
        ("113.2", "Area $=113.1 \\mathrm{~cm}^{2}$"),
        ("9", "9\\pi"),
        ("(-2, 2)", "(2,-2)"),
        ("y = 2x + 5", "y=-2 x+5"),
        ("(-4, 0) and (-3, 1]", "domain: [-4, 0) and range: (-3, 1]"),
        ("\\frac{1}{3}", "\\frac{3^{1008}-1}{3^{1009}}"),
        ("", "5"),
    ],
)
def test_not_the_same(answer: str, reference: str) -> None:
    assert not same(answer, reference)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("\\frac{1}{2}+\\sqrt{4}", 2.5),
        ("2^3^1 - (1+1)", None),
        ("-2^2", -4.0),
        ("2(3+4)/7", 2.0),
        ("1{,}000", None),
        ("1,000", 1000.0),
        ("50%", 0.5),
        ("x", None),
        ("1/0", None),
        ("9^9", 9.0**9),
        ("9^{99}", None),
        ("((1)", None),
        ("1 2", None),
    ],
)
def test_arithmetic(text: str, number: float | None) -> None:
    assert value(text) == number
