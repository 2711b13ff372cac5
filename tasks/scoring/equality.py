"""Compares a free answer with the reference answer: as text, as a number, and as a formula."""

from __future__ import annotations

import math
import re
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Final

from atomthink_plugin.answers import MAX_MATH, TOLERANCE, equivalent
from atomthink_plugin.tasks.scoring.arithmetic import value
from atomthink_plugin.tasks.scoring.latex import plain, tokens
from atomthink_plugin.tasks.scoring.stated_numbers import numbers

MAX_ANSWER: Final = 300
"""Longer answers are not compared, because no reference is that long."""

MAX_DEPTH: Final = 5
"""Nesting depth of brackets up to which math-verify is used."""

MIN_DIGITS: Final = 3
"""Significant digits that a rounded answer needs to equal a more exact reference."""

_UNIT: Final = (
    r"(?:square |cubic |sq\.? |cu\.? )?(?:mm|cm|dm|km|m|kg|g|mg|ml|l|inch(?:es)?|in|ft|feet|foot|yards?|yd|miles?|mi|"
    r"(?:centi|milli|kilo)?met(?:er|re)s?|units?|degrees?|°|minutes?|min|hours?|h|seconds?|s|years?|days?|lit(?:er|re)s?|"
    r"dollars?|cents?|km ?/ ?h|m ?/ ?s)\.?(?: ?\^ ?[23]| ?[23]| squared| cubed)?"
)
_TRAILING: Final = re.compile(rf"(?<=[\d)πa-z}}°]) ?(?<![a-z]){_UNIT}$", re.IGNORECASE)
_LABEL: Final = re.compile(r"^[a-zA-Z .'()]{0,60}(?:=|≈|:)\s?(?=\S)")
_MIRRORED: Final = re.compile(r"\s?=\s?[a-z]$")
_JOINS: Final = frozenset({"domain", "range", "center", "and", "the", "is", ":", ",", ".", ";", "on"})


def same(answer: str, reference: str) -> bool:
    r"""Returns whether an answer is the reference. Never raises.

    Labels (`Area =`), units and layout are ignored. math-verify compares expressions. A decimal may be more exact than
    the reference, or rounded to at least `MIN_DIGITS` significant digits.

    Example:
        >>> same("113.097", "Area $=113.1 \\mathrm{~cm}^{2}$"), same("12", "12.4")
        (True, False)
    """
    return _same(answer[:MAX_ANSWER], reference[:MAX_ANSWER]) if len(answer) <= MAX_ANSWER else False


@lru_cache(maxsize=4096)
def _same(answer: str, reference: str) -> bool:
    lines = set(reference.split("\n"))
    reference = lines.pop() if len(lines) == 1 else reference  # some references are written twice
    if _content_tokens(answer) == _content_tokens(reference) != []:
        return True
    pairs = [
        (answer, reference),
        (_without_layout(answer), _without_layout(reference)),
        (_without_layout(answer, unlabelled=True), _without_layout(reference, unlabelled=True)),
    ]
    values = [(value(ours), value(theirs)) for ours, theirs in pairs]
    if any(_close(*pair) for pair in pairs) or any(_equal_values(*pair) for pair in values):
        return True
    if any(ours is not None and theirs is not None for ours, theirs in values):
        return False
    return any(equivalent(*pair) for pair in dict.fromkeys(pairs) if all(map(_is_fast_to_parse, pair)))


def _is_fast_to_parse(text: str) -> bool:
    """Returns whether math-verify parses an expression within milliseconds; its time grows fast with nesting."""
    depth = deepest = 0
    for sign in text:
        depth += (sign in "([{") - (sign in ")]}")
        deepest = max(deepest, depth)
    return len(text) <= MAX_MATH and deepest <= MAX_DEPTH


def _equal_values(first: float | None, second: float | None) -> bool:
    return first is not None and second is not None and math.isclose(first, second, rel_tol=TOLERANCE)


def _content_tokens(text: str) -> list[str]:
    return [token for token in tokens(text.replace("掳", "°")) if token not in _JOINS]


def _without_layout(text: str, unlabelled: bool = False) -> str:
    """Returns an answer without LaTeX layout and unit, and without its label if `unlabelled`."""
    answer = plain(text.replace("掳", "°")).strip(" .")
    if unlabelled:
        answer = _MIRRORED.sub("", _LABEL.sub("", answer)).strip()
    return _TRAILING.sub("", answer).strip()


def _close(answer: str, reference: str) -> bool:
    """Returns whether two plain decimals are equal up to rounding."""
    first, second = _decimal(answer), _decimal(reference)
    if first is None or second is None:
        return False
    if first == second:
        return True
    coarse, fine = sorted((first, second), key=lambda number: -_exponent(number))
    if _exponent(coarse) == _exponent(fine) or (coarse is first and len(coarse.as_tuple().digits) < MIN_DIGITS):
        return False
    return coarse is first or _exponent(coarse) < 0 if fine.quantize(coarse) == coarse else False


def _exponent(number: Decimal) -> int:
    return int(number.as_tuple().exponent)


def _decimal(text: str) -> Decimal | None:
    found = numbers(text)
    if len(found) != 1 or found[0].text != text or len(text) > 20:
        return None
    try:
        decimal = Decimal(text.replace(",", "").lstrip("$"))
    except InvalidOperation:
        return None
    return decimal if decimal.is_finite() else None
