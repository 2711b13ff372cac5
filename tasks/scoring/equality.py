"""Whether a free answer is the reference answer: the same expression, or the same number in another dress."""

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
"""Characters of an answer that is compared; what is longer is an essay."""

MAX_DEPTH: Final = 5
"""Brackets within brackets up to which math-verify is asked."""

MIN_DIGITS: Final = 3
"""Significant digits from which a rounded answer is as good as a more exact reference."""

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

    Labels (`Area =`), units and layout do not count; expressions are compared by math-verify; a decimal may be more
    exact than the reference, or rounded to `MIN_DIGITS` significant digits.

    Example:
        >>> same("113.097", "Area $=113.1 \\mathrm{~cm}^{2}$"), same("12", "12.4")
        (True, False)
    """
    return _same(answer[:MAX_ANSWER], reference[:MAX_ANSWER]) if len(answer) <= MAX_ANSWER else False


@lru_cache(maxsize=4096)
def _same(answer: str, reference: str) -> bool:
    lines = set(reference.split("\n"))
    reference = lines.pop() if len(lines) == 1 else reference  # some references say the same twice
    if _content(answer) == _content(reference) != []:
        return True
    pairs = [(answer, reference), (_bare(answer), _bare(reference)), (_bare(answer, True), _bare(reference, True))]
    values = [(value(form), value(want)) for form, want in pairs]
    if any(_close(*pair) for pair in pairs) or any(_alike(*pair) for pair in values):
        return True
    if any(form is not None and want is not None for form, want in values):
        return False
    return any(equivalent(*pair) for pair in dict.fromkeys(pairs) if all(map(_readable, pair)))


def _readable(text: str) -> bool:
    """Whether an expression is read within milliseconds: a grammar's work grows fast with nesting."""
    depth = deepest = 0
    for sign in text:
        depth += (sign in "([{") - (sign in ")]}")
        deepest = max(deepest, depth)
    return len(text) <= MAX_MATH and deepest <= MAX_DEPTH


def _alike(first: float | None, second: float | None) -> bool:
    return first is not None and second is not None and math.isclose(first, second, rel_tol=TOLERANCE)


def _content(text: str) -> list[str]:
    return [token for token in tokens(text.replace("掳", "°")) if token not in _JOINS]


def _bare(text: str, unlabelled: bool = False) -> str:
    """Returns an answer without layout and unit, and without its label."""
    bare = plain(text.replace("掳", "°")).strip(" .")
    if unlabelled:
        bare = _MIRRORED.sub("", _LABEL.sub("", bare)).strip()
    return _TRAILING.sub("", bare).strip()


def _close(answer: str, reference: str) -> bool:
    """Whether two plain decimals are the same up to rounding."""
    first, second = _decimal(answer), _decimal(reference)
    if first is None or second is None:
        return False
    if first == second:
        return True
    rough, fine = sorted((first, second), key=lambda number: -_exponent(number))
    if _exponent(rough) == _exponent(fine) or (rough is first and len(rough.as_tuple().digits) < MIN_DIGITS):
        return False
    return rough is first or _exponent(rough) < 0 if fine.quantize(rough) == rough else False


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
