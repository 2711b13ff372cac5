"""Converts LaTeX to plain text and text to tokens, so that differently written mathematics can be compared."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_FONTS: Final = re.compile(
    r"\\(?:text|textbf|textit|mathrm|mathbf|mathit|mbox|operatorname|overline)\s*\{([^{}]{0,500})\}"
)
_FRACTION: Final = re.compile(r"\\[dt]?frac\s*(?:\{([^{}]{1,80})\}|(\d))\s*(?:\{([^{}]{1,80})\}|(\d))")
_ROOT: Final = re.compile(r"(?:\\sqrt\s*|√\s*|\bsqrt\s*)(?:\{([^{}]{1,80})\}|\(([^()]{1,80})\)|(\d+))")
_DEGREES: Final = re.compile(r"\^?\s?\{?\s?\*?\s?\\(?:circ|degree)\s?\}?|\*?\\degree|\bdegrees?\b|\bdeg\b")
_LAYOUT: Final = re.compile(r"\\(?:left|right|displaystyle|quad|boxed|,|;|!|:| |\(|\)|\[|\])|[$`*]")
_SIGNS: Final = {
    "\\pi": "π", "\\times": "×", "\\cdot": "·", "\\%": "%", "\\angle": "∠", "\\le": "≤", "\\ge": "≥", "\\leq": "≤",
    "\\geq": "≥", "\\infty": "∞", "\\pm": "±", "\\approx": "≈", "\\triangle": "△", "\\sqrt": "√", "\\theta": "θ",
}  # fmt: skip
_COMMAND: Final = re.compile(r"\\(?:[a-zA-Z]+|%)")
_POWERS: Final = str.maketrans({"²": "^2", "³": "^3", "∘": "°"})
_TOKEN: Final = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?(?![\d,])|\d+(?:\.\d+)?|\.\d+|[^\W\d_]+(?:'[a-z]+)?|[^\w\s]|_")
_LAST: Final = frozenset(".,;:!?\"'")


@lru_cache(maxsize=4096)
def plain(text: str) -> str:
    r"""Returns LaTeX as plain text: `\frac{1}{2}` as `1/2`, `\sqrt{3}` as `√3`, `60^\circ` as `60°`.

    Example:
        >>> plain("$2\\sqrt{3} \\mathrm{~cm}$")
        '2√3 cm'
    """
    if "\\" not in text and not _SPECIAL.search(text):
        return text
    text = text.translate(_POWERS)
    for _ in range(3):  # answers are not nested deeper
        text = _FONTS.sub(r" \1 ", text).replace("~", " ")
        text = _ROOT.sub(lambda root: "√" + _group(root[1] or root[2] or root[3]), text)
        text = _FRACTION.sub(_divided, text)
    text = _DEGREES.sub("°", " ".join(_LAYOUT.sub(" ", text).split()))
    text = _COMMAND.sub(lambda command: _SIGNS.get(command[0], " "), text)
    return " ".join(re.sub(r"\^\{(\w)\}", r"^\1", text).split())


_SPECIAL: Final = re.compile(r"[$*`√²³∘~]|degree|deg\b|sqrt")


def _divided(part: re.Match[str]) -> str:
    quotient = f"{_group(part[1] or part[2])}/{_group(part[3] or part[4])}"
    before = part.string[part.start() - 1 : part.start()]
    if before.isdecimal() and quotient.replace("/", "").isdecimal():
        return f" {quotient}"  # a mixed number
    return f"({quotient})" if before.isalnum() or before in {")", "}"} else quotient


def _group(inner: str) -> str:
    inner = inner.strip()
    return inner if re.fullmatch(r"\w+|√\w+|\d*\.\d+", inner) else f"({inner})"


def tokens(text: str) -> list[str]:
    """Returns the words, numbers and signs of a text in lower case, without punctuation at the end."""
    found = [
        token.replace(",", "") if token[0].isdigit() else token for token in _TOKEN.findall(plain(text).casefold())
    ]
    while found and found[-1] in _LAST:
        found.pop()
    return found
