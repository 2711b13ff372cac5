"""MathVista: an option, an integer, a rounded decimal or a list, compared as the benchmark compares."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from atomthink_plugin.tasks.scoring import question_fields
from atomthink_plugin.tasks.scoring.amounts import amount
from atomthink_plugin.tasks.scoring.choices import Options
from atomthink_plugin.tasks.scoring.question_text import QuestionText
from atomthink_plugin.tasks.scoring.text import tidy
from atomthink_plugin.tasks.scoring.verdict import AnswerVerdict, ExtractedAnswer, compared

_LIST: Final = re.compile(r"\[\s{0,9}-?\d[\d.,\s-]{0,400}\]")
_ITEM: Final = re.compile(r"(?<!\d)-?\d{1,20}(?:\.\d{1,20})?")
_PAIR: Final = re.compile(r"(?<![\d.,])\d{1,9}(?: and | to |-)\d{1,9}(?![\d,])")


def judge(question: Mapping[str, Any], response: str) -> AnswerVerdict:
    """Judges a response to a MathVista question."""
    found = find(question, tidy(response))
    answer = question_fields.text(question, "answer", "mathvista").strip()
    return compared(found, lambda value: value == answer)


def find(question: Mapping[str, Any], response: str) -> ExtractedAnswer | None:
    """Finds the answer in a response, without looking at the reference."""
    asked = question_fields.text(question, "question", "mathvista")
    choices = question_fields.options(question, "choices", "mathvista")
    answer_type = question_fields.text(question, "answer_type", "mathvista")
    if choices:
        chosen = Options(choices).choose(QuestionText(asked), response)
        return ExtractedAnswer(chosen[1], choices[chosen[0]], chosen[2]) if chosen else None
    if answer_type == "list":
        return _list(response)
    hit = amount(QuestionText(asked), response)
    if hit is None:
        return None
    number, rule = hit
    if number.until is not None:  # a range is no number
        value = None
    elif answer_type == "integer":
        value = str(number.value) if number.value.denominator == 1 else None
    else:
        precision = question_fields.column(question, "precision", "mathvista")
        value = str(round(float(number.value), int(precision) if precision is not None else 2))
    return ExtractedAnswer(number.text, value, rule)


def _list(response: str) -> ExtractedAnswer | None:
    """Finds the list that stands last, as `[2, 3]` or as `2 and 3`."""
    hits = sorted((*_LIST.finditer(response), *_PAIR.finditer(response)), key=lambda hit: hit.end())
    if not hits:
        return None
    items = _ITEM.findall(hits[-1][0])
    return ExtractedAnswer(hits[-1][0], f"[{', '.join(items)}]", "list")
