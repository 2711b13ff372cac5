"""The prompts of lmms-eval's MathVista tasks, copied because these tasks cannot be imported without a judge's key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from atomthink_plugin.api import QuestionError
from atomthink_plugin.tasks.benchmarks.benchmark import Document

_HINTS_AT_THE_END: Final = {
    "choice": "Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.",
    "integer": "Please answer the question requiring an integer answer and provide the final value, "
    "e.g., 1, 2, 3, at the end.",
    "float1": "Please answer the question requiring a floating-point number with one decimal place and provide the "
    "final value, e.g., 1.2, 1.3, 1.4, at the end.",
    "float2": "Please answer the question requiring a floating-point number with two decimal places and provide the "
    "final value, e.g., 1.23, 1.34, 1.45, at the end.",
    "list": "Please answer the question requiring a Python list as an answer and provide the final list, "
    "e.g., [1, 2, 3], [1.2, 1.3, 1.4], at the end.",
}
_HINTS_DIRECT: Final = {
    "choice": "Answer with the option's letter from the given choices directly.",
    "integer": "Answer the question using a single integer number.",
    "float1": "Answer the question using a single floating-point number with one decimal place.",
    "float2": "Answer the question using a single floating-point number with two decimal places.",
    "list": "Answer the question using a Python list.",
}


def prompt(doc: Document, shot_type: str) -> str:
    """Returns the prompt of a question.

    Args:
        doc: A row of the data set.
        shot_type: lmms-eval's name of the kind of prompt: `step-by-step`, `solution`, `format-prompt` (answer directly)
            or `reason-first`.

    Raises:
        QuestionError: There is no prompt for the question's type of answer.
    """
    return _PROMPTS[shot_type](doc).strip()


def _step_by_step(doc: Document) -> str:
    return _lines(_question(doc), _options(doc), f"Hint: {_hint(doc, _HINTS_AT_THE_END)}")


def _solution(doc: Document) -> str:
    return _lines(_step_by_step(doc), "Solution: ")


def _direct(doc: Document) -> str:
    options = "\n".join(f"{letter}. {choice}" for letter, choice in _lettered(doc))
    return _lines(doc["question"] + _unit(doc), options, _hint(doc, _HINTS_DIRECT))


def _reason_first(doc: Document) -> str:
    if _kind(doc) == "choice":
        hint = "finally select the question from the choices in the following format: Answer: xxx."
    else:
        hint = _hint(doc, _HINTS_AT_THE_END).removeprefix("Please ").removesuffix(".")
        hint = f"finally {hint} in the following format: Answer: xxx."
    return _lines(f"First perform reasoning, then {hint}", _question(doc), _options(doc))


_PROMPTS: Final[dict[str, Callable[[Document], str]]] = {
    "step-by-step": _step_by_step,
    "solution": _solution,
    "format-prompt": _direct,
    "reason-first": _reason_first,
}


def _question(doc: Document) -> str:
    return f"Question: {doc['question']}{_unit(doc)}"


def _unit(doc: Document) -> str:
    return f" (Unit: {doc['unit']})" if doc["unit"] else ""


def _options(doc: Document) -> str:
    lettered = _lettered(doc)
    return "\n".join(["Choices:", *(f"({letter}) {choice}" for letter, choice in lettered)]) if lettered else ""


def _lettered(doc: Document) -> list[tuple[str, str]]:
    return [(chr(ord("A") + i), choice) for i, choice in enumerate(doc["choices"] or ())]


def _kind(doc: Document) -> str:
    if doc["question_type"] == "multi_choice":
        return "choice"
    return f"float{doc['precision']:.0f}" if doc["answer_type"] == "float" else doc["answer_type"]


def _hint(doc: Document, hints: dict[str, str]) -> str:
    kind = _kind(doc)
    if kind not in hints:
        raise QuestionError(f"MathVista question {doc['pid']}: there is no prompt for the answer type {kind!r}")
    return hints[kind]


def _lines(*parts: str) -> str:
    return "\n".join(part for part in parts if part)
