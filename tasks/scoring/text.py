"""Normalizes a response for the rules: bounds its length, replaces unusual characters, and splits sentences."""

from __future__ import annotations

import re
from typing import Final

MAX_HEAD: Final = 2_000
MAX_TAIL: Final = 10_000
"""Characters that are kept at the end of a longer response. An answer is at the beginning or at the end."""

_PLAIN: Final = str.maketrans(
    {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
    | {chr(code): None for code in (*range(9), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F, 0xFEFF)}
    | {chr(code): None for code in (*range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2066, 0x206A))}
    | {"\u2028": "\n", "\u2029": "\n", "\u3000": " ", "\xa0": " ", "\u202f": " ", "\u2009": " "}
    | {"−": "-", "‐": "-", "‑": "-", "’": "'", "‘": "'", "“": '"', "”": '"', "˚": "°", "º": "°"}
)
_LINES: Final = re.compile(r"\r\n?")
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_END: Final = re.compile(
    r"\n+|(?<=[.!?])[*_)\"]{0,3}\s(?=\s{0,9}[^\s\d])|(?<=[.!?])[*_)\"]{0,3}\s+(?=\d+\s[a-z])|(?<=[。！？；])"
)
_ABBREVIATED: Final = re.compile(r"(?:\b(?:approx|vs|e\.g|i\.e|etc|Fig|No|Mr|Dr|sq|cu|fig|sig)|(?<![^\W_])[A-Z])\.$")


def normalize(response: str) -> str:
    """Returns a response in plain characters; of a long one, its two ends."""
    if len(response) > MAX_HEAD + MAX_TAIL:
        response = response[:MAX_HEAD] + "\n\n" + response[-MAX_TAIL:]
    return _SURROGATES.sub("", _LINES.sub("\n", response.translate(_PLAIN))).strip()


def sentences(text: str) -> list[str]:
    """Returns the sentences of a text. A line break ends a sentence; a decimal point or an abbreviation does not."""
    found: list[str] = []
    begin = 0
    for end in _END.finditer(text):
        sentence = text[begin : end.start()].strip()
        if "\n" not in end[0] and _ABBREVIATED.search(sentence[-12:]):
            continue
        found.append(sentence)
        begin = end.end()
    return [sentence for sentence in (*found, text[begin:].strip()) if sentence]
