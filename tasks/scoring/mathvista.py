"""MathVista: an option, an integer, a rounded decimal or a list, compared as the benchmark compares."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from atomthink_plugin.tasks.scoring import question_fields
from atomthink_plugin.tasks.scoring.free_answers import find_number
from atomthink_plugin.tasks.scoring.options import Options
from atomthink_plugin.tasks.scoring.question_text import QuestionText
from atomthink_plugin.tasks.scoring.text import normalize
from atomthink_plugin.tasks.scoring.verdict import AnswerVerdict, ExtractedAnswer, verdict_on

_LIST: Final = re.compile(r"\[\s{0,9}-?\d[\d.,\s-]{0,400}\]")
_ITEM: Final = re.compile(r"(?<!\d)-?\d{1,20}(?:\.\d{1,20})?")
_PAIR: Final = re.compile(r"(?<![\d.,])\d{1,9}(?: and | to |-)\d{1,9}(?![\d,])")


def judge(question: Mapping[str, Any], response: str) -> AnswerVerdict:
    """Judges a response to a MathVista question."""
    found = extract_answer(question, normalize(response))
    answer = question_fields.text(question, "answer", "mathvista").strip()
    return verdict_on(found, lambda value: value == answer)


def extract_answer(question: Mapping[str, Any], response: str) -> ExtractedAnswer | None:
    """Returns the answer of a response, None if it gives none."""
    text = QuestionText(question_fields.text(question, "question", "mathvista"))
    choices = question_fields.options(question, "choices", "mathvista")
    answer_type = question_fields.text(question, "answer_type", "mathvista")
    if choices:
        chosen = Options(choices).choose(text, response)
        return ExtractedAnswer(chosen.words, choices[chosen.index], chosen.rule) if chosen else None
    if answer_type == "list":
        return _list(response)
    found = find_number(text, response)
    if found is None:
        return None
    number, rule = found
    if number.until is not None:  # a range is not a number
        value = None
    elif answer_type == "integer":
        value = str(number.value) if number.value.denominator == 1 else None
    else:
        precision = question_fields.column(question, "precision", "mathvista")
        value = str(round(float(number.value), int(precision) if precision is not None else 2))
    return ExtractedAnswer(number.text, value, rule)


def _list(response: str) -> ExtractedAnswer | None:
    """Returns the last list, written as `[2, 3]` or as `2 and 3`."""
    lists = sorted((*_LIST.finditer(response), *_PAIR.finditer(response)), key=lambda match: match.end())
    if not lists:
        return None
    items = _ITEM.findall(lists[-1][0])
    return ExtractedAnswer(lists[-1][0], f"[{', '.join(items)}]", "list")
