"""Numbers in free text, with their exact values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

_DIGITS: Final = r"(?:\d{1,3}(?:,\d{3}){1,8}(?![,\d])|\d{1,30}(?!\d))(?:\.\d{1,30}(?!\d))?|\.\d{1,30}(?!\d)"
_NUMBER: Final = re.compile(
    rf"(?<![\w.^])(?P<sign>(?<![^\s(=:$\[,*])-(?=[\d.$\\])|)\$?"
    rf"(?:\\[dt]?frac\s?\{{(?P<above>-?\d{{1,20}})\}}\s?\{{(?P<below>\d{{1,20}})\}}"
    rf"|(?P<top>\d{{1,20}})\s?/\s?(?P<bottom>\d{{1,20}})(?![\d/])"
    rf"|(?P<plain>{_DIGITS}))"
    r"(?:\s?(?:×|\\times|x|\*)\s?10\s?\^\s?\{?(?P<power>[-−]?\d{1,2})\}?|e(?P<exponent>[-+]?\d{1,2})(?!\w))?"
    r"(?P<percent>\s?\\?%)?",
)
_UP_TO_TWENTY: Final = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
_TENS: Final = {
    "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90, "hundred": 100,
}  # fmt: skip
_WORDS: Final = {word: value for value, word in enumerate(_UP_TO_TWENTY)} | _TENS
_WORD: Final = re.compile(rf"(?<![\w-])(?:{'|'.join(_WORDS)})(?![\w-])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Number:
    """A number in a text.

    Attributes:
        value: Its exact value; of a percentage, the number before the sign.
        text: The number as written, without its unit.
        start: Index of its first character in the text.
        end: Index after its last character.
        until: The other end of a range (`2 to 3`, `between 2 and 3`), None for a single number.
    """

    value: Fraction
    text: str
    start: int
    end: int
    until: Fraction | None = None


def numbers(text: str) -> list[Number]:
    """Returns the numbers written with digits: decimals, fractions, powers of ten, thousands with separators."""
    found: list[Number] = []
    for number in (number for match in _NUMBER.finditer(text) if (number := _read(match))):
        last = found[-1] if found else None
        if last and last.until is None and _is_range(text, last, number):
            found[-1] = Number(last.value, text[last.start : number.end].strip(), last.start, number.end, number.value)
        else:
            found.append(number)
    return found


def number_words(text: str) -> list[Number]:
    """Returns the numbers written as words."""
    return [Number(Fraction(_WORDS[m[0].lower()]), m[0], m.start(), m.end()) for m in _WORD.finditer(text)]


def _is_range(text: str, first: Number, second: Number) -> bool:
    between = text[first.end : second.start].strip()
    if between == "to":
        return first.value < second.value
    return between == "and" and text[max(0, first.start - 12) : first.start].rstrip().endswith("between")


def _read(match: re.Match[str]) -> Number | None:
    part = match.groupdict(default="")
    if part["plain"]:
        value = Fraction(part["plain"].replace(",", ""))
    else:
        below = int(part["below"] or part["bottom"])
        if below == 0:
            return None
        value = Fraction(int(part["above"] or part["top"]), below)
    power = part["power"].replace("−", "-") or part["exponent"]
    if power:
        value *= Fraction(10) ** int(power)
    if "-" in part["sign"]:
        value = -value
    return Number(value, match[0].strip(), match.start(), match.end())
