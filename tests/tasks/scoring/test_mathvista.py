"""What MathVista answers are read from free text, rule by rule, on responses written by hand."""

from __future__ import annotations

import pytest

from atomthink_plugin.tasks.scoring.judges import judge

from .records import vista

BARS = "How many bars have values below 40?"
ANGLE = vista("Find the degree of ∠A.", "45°", ["35°", "45°", "55°", "65°"])
COLOUR = vista("Which colour is most common?", "red", ["blue", "red", "dark red", "green"])
MORE = vista("Is the number of red cars greater than the number of blue buses?", "No", ["Yes", "No"])
SAME = vista("Find x.", "18", ["9", "12", "18", "18"])


@pytest.mark.parametrize(
    ("response", "number", "rule"),
    [
        ("3", "3", "whole"),
        ("three", "3", "whole"),
        ("3 bars", "3", "whole"),
        ("There are 7 bars. The answer is 3.", "3", "stated"),
        ("So 5 - 2 = \\boxed{3}", "3", "stated"),
        ("Final value: 1,234", "1234", "stated"),
        ("Here is how I got the answer:\n1. Bars: 9.\nTherefore, 3 bars are below 40.", "3", "conclusion"),
        ("Therefore, the difference is 8 - 5 = 3.", "3", "conclusion"),
        ("There are **3** bars. The values are 35, 36 and 37.", "3", "emphasis"),
        ("They cost $4 and $5.\n\n$4 + $5 = $9\n\nHe needs $9.", "9", "closing"),
        ("There are 3 bars with values below 40, at 35, 36 and 37.", "3", "restated"),
        ("There are two bars with values below 40.", "2", "restated"),
        ("The image has 12 bars. I count 3.", "3", "last"),
    ],
)
def test_the_number_that_answers(response: str, number: str, rule: str) -> None:
    verdict = judge("mathvista", vista(BARS, number), response)
    assert (verdict.normalized, verdict.correct, verdict.rule) == (number, True, rule)


@pytest.mark.parametrize(
    ("question", "response", "number"),
    [
        (
            "The model has 9 dots. There are (_) dots in each group.",
            "It has 9 dots. There are 3 dots in each group.",
            "3",
        ),
        ("The model has 9 dots. There are (_) dots in each group.", "The 9 dots are put in groups of 3 dots.", "3"),
        ("Which year has the highest share?", "The share was highest in 2018, with 27.6%.", "2018"),
        (
            "What is the perimeter of the square?",
            "The perimeter of the square is 36 feet, with a width of 9 feet.",
            "36",
        ),
        ("What is the sum of both?", "They are 13 and 11. The sum of both is 24.", "24"),
        ("What is r at t=3?", "At t=3, the value of r is 2.", "2"),
        ("In how many years was it above 5?", "It was above 5 in 3 years: 2004, 2006 and 2008.", "3"),
        ("What is the difference?", "The difference is -4 degrees.", "-4"),
        ("How much?", "It is $1,250.00.", "1250"),
    ],
)
def test_the_question_selects_the_number_that_answers_it(question: str, response: str, number: str) -> None:
    assert judge("mathvista", vista(question, number), response).normalized == number


@pytest.mark.parametrize(
    ("response", "correct"),
    [("1.2", True), ("1.24", True), ("1.25 m", True), ("The answer is 1.26.", False), ("6/5", True), ("1.2e0", True)],
)
def test_decimals_are_rounded_as_the_question_asks(response: str, correct: bool) -> None:
    question = vista("Find d.", "1.2", answer_type="float", precision=1.0)
    assert judge("mathvista", question, response).correct is correct


@pytest.mark.parametrize("response", ["2.5", "between 2 and 3", "2 to 3", "about two or so: 2.01"])
def test_what_is_no_integer_answers_no_integer(response: str) -> None:
    assert not judge("mathvista", vista("How many?", "2"), response).correct


@pytest.mark.parametrize(
    ("response", "correct"),
    [
        ("[2014, 2016]", True),
        ("Between 2014 and 2016.", True),
        ("The years are [2010, 2011, 2012], so between 2014 and 2016.", True),
        ("2014", False),
        ("[2016, 2014]", False),
    ],
)
def test_lists(response: str, correct: bool) -> None:
    question = vista("Between which two years?", "[2014, 2016]", answer_type="list")
    assert judge("mathvista", question, response).correct is correct


@pytest.mark.parametrize(
    ("response", "rule"),
    [
        ("B", "whole"),
        ("(b)", "whole"),
        ("45 degrees", "whole"),
        ("$45^\\circ$", "whole"),
        ("The correct answer is **(B) 45°**.", "letter"),
        ("The correct option letter for this is B. 35° is too small.", "letter"),
        ("∠C = 35°. 答案是80°，选项为B。", "stated"),
        ("The answer is 45.0 degrees.", "stated"),
        ("\\boxed{\\sqrt{2025}^\\circ}", "equivalent"),
        ("We conclude that ∠A is equal to 45, and ∠B is not.", "amount"),
        ("Options (B) fits.", "marked"),
    ],
)
def test_the_option_chosen(response: str, rule: str) -> None:
    verdict = judge("mathvista", ANGLE, response)
    assert (verdict.normalized, verdict.correct, verdict.rule) == ("45°", True, rule)


@pytest.mark.parametrize(
    "response",
    [
        "It is red.",
        "Red is the most common colour.",
        "The most common colour is **red**.",
        'I would call it "red".',
        "Blue is rare. Therefore, the most common colour is red.",
        "The red ones are more common than the blue ones.",
        "If green is counted, the most common one would still be red.",
    ],
)
def test_options_by_their_text(response: str) -> None:
    assert judge("mathvista", COLOUR, response).correct


def test_an_option_within_another_is_not_mentioned() -> None:
    assert judge("mathvista", COLOUR, "The most common colour is dark red.").normalized == "dark red"


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("Yes, there are more.", "Yes"),
        ("No.", "No"),
        ("The number of red cars is greater than the number of blue buses.", "Yes"),
        ("The number of red cars is not greater than the number of blue buses.", "No"),
        ("The number of red cars is less than the number of blue buses.", "No"),
        ("The number of blue buses is greater than the number of red cars.", "No"),
        ("The number of blue buses is less than the number of red cars.", "Yes"),
        ("The number of red cars equals the number of blue buses.", "No"),
    ],
)
def test_yes_and_no_in_other_words(response: str, answer: str) -> None:
    assert judge("mathvista", MORE, response).normalized == answer


def test_options_that_are_the_same_are_one() -> None:
    assert judge("mathvista", SAME, "So CD = \\boxed{18}.").correct
    assert judge("mathvista", SAME, "The answer is (D).").correct


def test_options_that_are_letters_in_another_order_are_chosen_by_text() -> None:
    question = vista("Which function?", "(b)", ["(c)", "(a)", "(b)"])
    assert judge("mathvista", question, "The answer is (b).").correct
    assert judge("mathvista", question, "The answer is (C).").correct


@pytest.mark.parametrize(
    "response",
    [
        "",
        " \n",
        "I'm sorry, I cannot see the image.",
        "Without the image, it is impossible to determine whether it is 35° or 45°.",
        "To find out whether it is 45°, we need to look at the figure.",
        "The correct option is (F).",
        "(A) 35°\n(B) 45°\n(C) 55°\n(D) 65°",
        "The answer is (A), (B) and (C).",
        "The answer is 50°. (The nearest option is none of them.)",
        "\\boxed{\\text{none}} but 45° is mentioned",
        "We have ∠A = 45° and so on. " + "Since ∠B = 45°, we go on. " * 40 + "Since ∠B",
    ],
)
def test_what_chooses_no_option_is_wrong(response: str) -> None:
    verdict = judge("mathvista", ANGLE, response)
    assert (verdict.normalized, verdict.correct, verdict.rule) == (None, False, "none")


def test_the_last_of_several_candidates_counts() -> None:
    response = "Let me try 35°. The answer is (A)... Wait, that is wrong.\nThe answer is (B)."
    assert judge("mathvista", ANGLE, response).correct
