"""The list shows questions without the instructions before them."""

from __future__ import annotations

from typing import Any

from atomthink_plugin.report.preamble import questions_in

BOXED = (
    'Please solve the problem step by step and put your answer in one "\\boxed{}".\n'
    'If it is a multiple choice question, only one letter is allowed in the "\\boxed{}".\n'
)
CHOICE = (
    "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.\nQuestion: "
)
NUMBER = "Hint: Please answer the question requiring an integer answer, e.g., 1, 2, 3, at the end.\nQuestion: "
QUESTIONS = (
    "How many are red?",
    "What is it?\nA. 3\nB. 4",
    "A train leaves. Where is it?",
    "A train stops. Why?",
    "7 + 8 is",
)


def shown(*texts: str, record: dict[str, Any] | None = None) -> list[str]:
    return questions_in([("task", text, record or {}) for text in texts])


def test_shared_beginnings_of_texts_are_removed() -> None:
    assert shown(*(BOXED + question for question in QUESTIONS)) == list(QUESTIONS)


def test_instructions_may_lack_the_space_after_them() -> None:
    glued = BOXED.partition("\n")[0]  # as lmms-eval's own MATH-Vision
    questions = [*QUESTIONS, "<image1> 3 of 5 remain.", "$x$ is 2.5. Find $2x$.", "5 + 5 is"]
    assert shown(*(glued + question for question in questions)) == questions


def test_instructions_may_be_of_several_kinds() -> None:
    texts = [(CHOICE if i % 2 else NUMBER) + question for i, question in enumerate(QUESTIONS * 2)]
    assert shown(*(f"{text} {i}" for i, text in enumerate(texts))) == [f"{q} {i}" for i, q in enumerate(QUESTIONS * 2)]


def test_a_question_asked_about_many_images_is_not_an_instruction() -> None:
    texts = [f"What is the area?\nA. {i}\nB. {i + 1}" for i in range(10)]
    assert shown(*texts) == texts
    assert shown(*(BOXED + text for text in texts)) == texts


def test_a_single_text_and_identical_texts_are_not_shortened() -> None:
    assert shown(BOXED + "Why?") == [BOXED + "Why?"]
    assert shown(*[BOXED + "Why?"] * 4) == [BOXED + "Why?"] * 4
    assert shown("", "Step by step.", "Step by step.\n") == ["", "Step by step.", "Step by step.\n"]


def test_tasks_have_their_own_instructions() -> None:
    texts = [("a", "Think. One?", {}), ("a", "Think. Two?", {}), ("b", "Think. Three?", {})]
    assert questions_in(texts) == ["One?", "Two?", "Think. Three?"]


def test_the_question_is_read_from_the_benchmarks_record() -> None:
    assert shown(BOXED + "Find it.\nChoices: 1", record={"question": "Find it.", "choices": ["1"]}) == ["Find it."]
    assert shown("Find it.", record={"question": ["not", "text"]}) == ["Find it."]
