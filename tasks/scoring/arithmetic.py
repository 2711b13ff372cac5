"""Evaluates expressions without variables. This is fast, and most wrong answers can be recognized without algebra."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Final

from atomthink_plugin.tasks.scoring.latex import plain

MAX_LENGTH: Final = 100
MAX_EXPONENT: Final = 30
_TOKEN: Final = re.compile(r"\d{1,15}(?:\.\d{1,15})?|\.\d{1,15}|[-+*/^()√π%°]")
_SIGNS: Final = str.maketrans(
    {"×": "*", "·": "*", "÷": "/", "−": "-", "[": "(", "]": ")", "{": "(", "}": ")", "$": " "}
)
_MIXED: Final = re.compile(r"\d\s+\d|\d{16}")
_THOUSANDS: Final = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


@lru_cache(maxsize=4096)
def value(text: str) -> float | None:
    r"""Returns the value of an arithmetic expression, None for other text and for values that are not finite.

    Example:
        >>> value("\\frac{1}{2}+\\sqrt{4}"), value("2x")
        (2.5, None)
    """
    if len(text) > MAX_LENGTH:
        return None
    written = _THOUSANDS.sub("", plain(text).translate(_SIGNS)).strip()
    tokens = _TOKEN.findall(written)
    if not tokens or _MIXED.search(written) or len("".join(tokens)) != len(re.sub(r"\s", "", written)):
        return None
    try:
        reader = _ExpressionParser(tokens)
        result = reader.sum()
        return result if reader.done() and math.isfinite(result) else None
    except (ArithmeticError, ValueError, IndexError):
        return None


class _ExpressionParser:
    """A recursive-descent parser. The length of the text bounds its depth."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    def done(self) -> bool:
        return self._at == len(self._tokens)

    def sum(self) -> float:
        total = self._product()
        while self._peek() in ("+", "-"):
            total = total + self._product() if self._next() == "+" else total - self._product()
        return total

    def _product(self) -> float:
        if self._peek() in ("-", "+"):
            return -self._product() if self._next() == "-" else self._product()
        result = self._power()
        while self._peek() and self._peek() not in ("+", "-", ")"):
            if self._peek() == "/":
                self._next()
                result /= self._power()
            else:
                if self._peek() == "*":
                    self._next()
                result *= self._power()
        return result

    def _power(self) -> float:
        base = self._atom()
        if self._peek() == "^":
            self._next()
            sign = -1.0 if self._peek() == "-" and self._next() else 1.0
            exponent = self._atom()
            if exponent > MAX_EXPONENT:
                raise ValueError("the exponent is too large for floats")
            return math.pow(base, sign * exponent)
        return base

    def _atom(self) -> float:
        token = self._next()
        if token == "(":
            result = self.sum()
            if self._next() != ")":
                raise ValueError("unbalanced")
        elif token == "√":
            result = math.sqrt(self._atom())
        elif token == "π":
            result = math.pi
        else:
            result = float(token)
        while self._peek() in ("%", "°"):
            result = result / 100 if self._next() == "%" else result
        return result

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1]
