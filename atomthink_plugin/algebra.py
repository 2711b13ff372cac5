"""Compares LaTeX by math-verify and sympy, which may hang: it runs in the process of `algebra_worker` alone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from math import comb
from typing import Any, Final

from math_verify import LatexExtractionConfig, parse, verify
from sympy import Add, Basic, Eq, Expr, Integer, MatrixBase, Mul, Pow, srepr

from atomthink_plugin.answers import TOLERANCE

MAX_TERMS: Final = 24
"""Further terms that two equations, sets or tuples may have when expanded."""

MAX_DEGREE: Final = 10
"""Degree of a polynomial in them."""

_FUNCTION: Final = re.compile(r"\\(?:arc)?(?:sin|cos|tan|cot|sec|csc|log|ln|exp)|e\s*\^")


def same(first: str, second: str) -> bool:
    """Compares two expressions: scalars by value, sets, intervals, tuples, matrices, equations by math-verify."""
    try:
        left, right = _parsed(first)[0], _parsed(second)[0]
        if isinstance(left, Expr) and isinstance(right, Expr):
            return _agree(left, right)
        if _shape(left) == _shape(right):
            return True
        if _FUNCTION.search(first + second) or not _expandable(left, right):
            return False
        return any(verify(a, b, timeout_seconds=None) for a, b in ((left, right), (right, left)))
    except Exception:  # sympy raises many kinds of errors on malformed input, which equals nothing
        return False


@lru_cache(maxsize=4096)
def _parsed(latex: str) -> Any:
    return parse(f"${latex}$", [LatexExtractionConfig()], parsing_timeout=None)


def _agree(first: Any, second: Any) -> bool:
    """Compares two scalars at fixed points, which unlike simplifying takes a bounded time.

    The values are sympy's: a float of Python would make infinity of 1e999, and 0 of 1e-999.
    """
    symbols = sorted(first.free_symbols | second.free_symbols, key=str)
    for start in (0.37, -1.73):
        point = {symbol: start + 0.6180339887 * index for index, symbol in enumerate(symbols)}
        left, right = (side.subs(point).evalf() for side in (first, second))
        if not (left.is_finite and right.is_finite):
            return False
        difference, size = abs(left - right).evalf(), max(abs(left).evalf(), abs(right).evalf())
        if not difference <= TOLERANCE * size:
            return False
    return True


def _shape(side: Any) -> str:
    """Returns a text that is the same for expressions that differ in the order of terms, factors or sides alone."""
    args = getattr(side, "args", ())
    parts = list(map(_shape, args)) if args else [srepr(side)]
    return f"{type(side).__name__}({','.join(sorted(parts) if isinstance(side, Add | Mul | Eq) else parts)})"


def _expandable(*sides: Any) -> bool:
    """Whether math-verify may expand and solve both sides: its time grows fast with their terms and degrees."""
    parts = [part for side in sides for part in _scalars(side)]
    return sum(_terms(part) - 1 for part in parts) <= MAX_TERMS and max(map(_degree, parts), default=0) <= MAX_DEGREE


def _scalars(side: Any) -> Iterable[Basic]:
    """Returns the scalars that a set, tuple, matrix, equation or inequality is made of."""
    if isinstance(side, Expr) or not getattr(side, "args", ()):
        return [side]
    return [part for item in (side if isinstance(side, MatrixBase) else side.args) for part in _scalars(item)]


def _terms(part: Any) -> int:
    """Returns how many terms an expression has at most when expanded."""
    if isinstance(part, Pow) and isinstance(part.exp, Integer):
        terms, power = _terms(part.base), abs(int(part.exp))
        return comb(terms + power - 1, power)
    counts = [_terms(inner) for inner in getattr(part, "args", ())]
    if isinstance(part, Mul):
        total = 1
        for count in counts:
            total *= count
        return total
    return sum(counts) if isinstance(part, Add) else max(counts, default=1)


def _degree(part: Any) -> int:
    degrees = [_degree(inner) for inner in getattr(part, "args", ())]
    if isinstance(part, Pow) and isinstance(part.exp, Integer):
        return degrees[0] * abs(int(part.exp))
    return sum(degrees) if isinstance(part, Mul) else max(degrees, default=int(getattr(part, "is_Symbol", False)))
