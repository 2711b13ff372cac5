"""MathVista: an option, an integer, a rounded decimal or a list, compared as the benchmark compares."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any, Final

from atomthink_plugin.tasks.scoring import record
from atomthink_plugin.tasks.scoring.amounts import amount
from atomthink_plugin.tasks.scoring.asked import Asked
from atomthink_plugin.tasks.scoring.choices import Options
from atomthink_plugin.tasks.scoring.text import tidy
from atomthink_plugin.tasks.scoring.verdict import Found, Verdict

_LIST: Final = re.compile(r"\[\s{0,9}-?\d[\d.,\s-]{0,400}\]")
_PAIR: Final = re.compile(r"(\d[\d.]{0,20})\s?(?:and|to|-|,)\s?(\d[\d.]{0,20})")


def judge(question: Mapping[str, Any], response: str) -> Verdict:
    """Judges a response to a MathVista question."""
    found = find(question, tidy(response))
    if found is None:
        return Verdict(None, None, False, "none")
    answer = record.text(question, "answer", "mathvista")
    return Verdict(found.text, found.value, found.value is not None and found.value == answer.strip(), found.rule)


def find(question: Mapping[str, Any], response: str) -> Found | None:
    """Finds the answer in a response, without looking at the reference."""
    asked = record.text(question, "question", "mathvista")
    choices = record.options(question, "choices", "mathvista")
    answer_type = record.text(question, "answer_type", "mathvista")
    if choices:
        chosen = Options(choices).choose(Asked(asked), response)
        return Found(chosen[1], choices[chosen[0]], chosen[2]) if chosen else None
    if answer_type == "list":
        return _list(response)
    hit = amount(Asked(asked), response)
    if hit is None:
        return None
    number, rule = hit
    if answer_type == "integer":
        value = str(number.value) if number.value.denominator == 1 else None
    else:
        precision = record.column(question, "precision", "mathvista")
        value = str(round(float(number.value), int(precision) if precision is not None else 2))
    return Found(number.text, value, rule)


def _list(response: str) -> Found | None:
    written = _LIST.findall(response)
    if written:
        try:
            return Found(written[-1], str(ast.literal_eval(written[-1])), "list")
        except (ValueError, SyntaxError):
            return None
    pairs = _PAIR.findall(response)
    return Found(" ".join(pairs[-1]), f"[{pairs[-1][0]}, {pairs[-1][1]}]", "pair") if pairs else None
