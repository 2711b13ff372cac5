"""The options of a multiple-choice question in another order, and answers to it in the original order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from string import ascii_uppercase
from typing import Final

from atomthink_plugin.answers import equivalent
from atomthink_plugin.api import Question

_WORDS: Final = re.compile(
    r"\b(?:above|below|preceding|previous|following|former|latter|both|neither|options?|choices?)\b|以上|以下|上述|选项",
    re.IGNORECASE,
)
"""Words by which an option refers to others, such as "none of the above"."""

_LETTER: Final = re.compile(
    r"(?:option |choice |\\(?:text|textbf|mathrm|mathbf)\s?\{)?(?:\((?P<a>[a-z])\)|(?P<b>[a-z])(?=[.):：}]|$)).*",
    re.IGNORECASE | re.DOTALL,
)
"""An answer that names an option by its letter, with or without its text."""


def latin_square(size: int) -> list[tuple[int, ...]]:
    """Returns as many orders as there are options: each option is at each position once. The first keeps the order."""
    return [tuple((position + row) % size for position in range(size)) for row in range(size)]


def reordered(question: Question, order: Sequence[int]) -> Question | None:
    """Returns the question with its options in another order; the letters stay in their places.

    Args:
        question: The question.
        order: For each position the index of the option that is put there.

    Returns:
        None if the options are not found in the last turn one after the other, each with its letter.
    """
    *before, last = question.messages
    pattern = _options(question.choices)
    for index in reversed(range(len(last.parts))):
        part = last.parts[index]
        if not isinstance(part, str) or not (found := list(pattern.finditer(part))):
            continue
        texts, end = [], 0
        for position in range(1, len(order) + 1):  # the last list is the one that is asked about
            texts += [part[end : found[-1].start(position)], found[-1][order[position - 1] + 1]]
            end = found[-1].end(position)
        parts = (*last.parts[:index], "".join(texts) + part[end:], *last.parts[index + 1 :])
        choices = tuple(question.choices[option] for option in order)
        return replace(question, messages=(*before, replace(last, parts=parts)), choices=choices)
    return None


def _options(choices: Sequence[str]) -> re.Pattern[str]:
    """Returns a pattern of the options in a prompt, each after its letter, with a group for each text."""
    texts = [r"\s+".join(map(re.escape, text.split())) for text in choices]
    letters = zip(ascii_uppercase, texts, strict=False)
    marked = (rf"(?<!\w)(?:\({a}\)|{a}[.):：])\s*({text})(?!\w)" for a, text in letters)
    return re.compile(r"[\s;,.]*".join(marked))


def refer_to_positions(choices: Sequence[str]) -> bool:
    """Returns whether an option may refer to others by their letters or places, or is a letter itself."""
    letters = f"[A-{ascii_uppercase[len(choices) - 1]}]"
    alone = re.compile(rf"\$?\(?{letters}\)?\$?\.?", re.IGNORECASE)
    several = re.compile(rf"(?<![\w\\])\(?{letters}\)?\s*(?:and|or|[,&/和或与])\s*\(?{letters}\)?(?!\w)")
    return any(_WORDS.search(text) or alone.fullmatch(text) or several.search(text) for text in choices)


def in_original_order(answer: str, order: Sequence[int]) -> str:
    """Returns an answer to a reordered question with the letter that its option has in the original order."""
    found = _LETTER.fullmatch(answer.strip())
    if found is None:
        return answer
    letter, name = (found["a"], "a") if found["a"] else (found["b"], "b")
    position = ascii_uppercase.index(letter.upper())
    if position >= len(order) or order[position] == position:
        return answer
    text = answer.strip()
    return text[: found.start(name)] + ascii_uppercase[order[position]] + text[found.end(name) :]


def letter_of(answer: str, choices: Sequence[str]) -> str:
    """Returns the letter of the option that an answer names by its letter or its text, else the answer."""
    found = _LETTER.fullmatch(answer.strip())
    if found is not None:
        return (found["a"] or found["b"]).upper()
    fitting = [at for at, choice in enumerate(choices) if equivalent(answer, choice)]
    return ascii_uppercase[fitting[0]] if len(fitting) == 1 else answer
