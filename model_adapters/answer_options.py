"""Finds the options of a multiple-choice question: in the task's document, else in the lines of its prompt."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from string import ascii_uppercase
from typing import Any, Final

_FIELDS: Final = ("choices", "options", "option", "candidates", "multi-choice options", "answer_options")
"""Fields of documents that hold all options."""

_COLUMNS: Final = ("{upper}", "choice_{lower}", "option_{lower}", "option_{upper}", "choice{number}", "option{number}")
"""Fields of documents that hold one option each."""

_OPTION: Final = str | int | float

_WORD: Final = r"(?:(?:answer )?(?:options?|choices?)|选项)[ \t]*[:：][ \t]*"
_MARK: Final = r"(?:\((?P<bracketed>[A-Z])\)|(?P<letter>[A-Z])(?P<sign>[.):：]))"
_LINE: Final = re.compile(rf"^[ \t]*(?P<word>(?i:{_WORD}))?{_MARK}", re.MULTILINE)
_INLINE: Final = re.compile(rf"(?P<gap>[;,] *|\s+){_MARK}")
_PICTURE: Final = re.compile(r"<image[ _]?\d*>|<\|?image_?\w*\|?>", re.IGNORECASE)
_ANY_MARK: Final = r"(?:\(?[A-Z0-9]{1,2}[.):：]\)?[ ]?)"


def answer_options(document: Any, prompt: str) -> tuple[str, ...]:
    r"""Returns the texts of the options in order, without their letters.

    The prompt decides: the document's options count only if they stand in it, and otherwise the options are the lines
    of the last run `A. ...`, `(A) ...`, `A) ...` or `A: ...` in it. Options that are pictures, as far as the texts
    tell, are none: image placeholders, or nothing but the option's own letter.

    Args:
        document: What the task builds its prompt from.
        prompt: What is asked.

    Returns:
        At least two texts, or none: for a free-form question, or where the document has an empty list of options.

    Example:
        >>> answer_options({"options": "['3 cm', '4 cm']"}, "How long is AB?\nA. 3 cm\nB. 4 cm\nAnswer with a letter.")
        ('3 cm', '4 cm')
    """
    offered = _of_document(document) if isinstance(document, Mapping) else None
    if offered is not None and not offered:
        return ()
    found = offered if offered and _stand_in(offered, prompt) else _of_prompt(prompt)
    pictures = all(text == letter for text, letter in zip(found, ascii_uppercase, strict=False))
    if len(found) < 2 or pictures or any(not text or _PICTURE.search(text) for text in found):
        return ()
    return tuple(found)


def _of_document(document: Mapping[str, Any]) -> list[str] | None:
    """Returns the options that a document has; empty where its list is, None where it has no such field."""
    for name in _FIELDS:
        if name in document:
            return _texts(document[name])
    for column in _COLUMNS:
        names = (column.format(upper=a, lower=a.lower(), number=i) for i, a in enumerate(ascii_uppercase, 1))
        values = [document[name] for name in takewhile(document.__contains__, names)]
        if len(values) > 1 and all(isinstance(value, _OPTION | None) for value in values):
            return list(takewhile(bool, map(_text, values)))
    return None


def _texts(value: Any) -> list[str] | None:
    """Returns a field's options; None if it is neither a list nor a mapping of letters to texts."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value.strip())  # JSON lists of strings are Python lists as well
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return _of_prompt(value) or None
    if value is None:
        return []
    if isinstance(value, Mapping):
        if isinstance(value.get("text"), Sequence):  # beside a list of labels
            return _texts(value["text"])
        if list(value) != list(ascii_uppercase[: len(value)]):
            return None
        value = list(value.values())
    if not isinstance(value, Iterable) or isinstance(value, str):
        return None
    options = list(value)
    if not all(isinstance(option, _OPTION) for option in options):
        return None
    return _without_letters([_text(option) for option in options])


def _text(value: str | float | None) -> str:
    """Returns an option as text, empty for one that is missing: tables fill short rows with None or NaN."""
    return "" if value is None or value != value or value == "nan" else str(value).strip()


def _without_letters(texts: list[str]) -> list[str]:
    """Returns the options without the letters that they begin with, where each begins with its own."""
    marks = [_LINE.match(text) for text in texts]
    letters = [_letter(mark) if mark else "" for mark in marks]
    if not texts or letters != list(ascii_uppercase[: len(texts)]):
        return texts
    return [text[mark.end() :].strip() for text, mark in zip(texts, marks, strict=True) if mark]


def _stand_in(options: Sequence[str], prompt: str) -> bool:
    """Returns whether the options stand in the prompt one after the other: each with a mark, or in its own line."""
    if not all(options):
        return False
    texts = [re.escape(_spaced(option)) for option in options]
    letters = zip(ascii_uppercase, texts, strict=False)
    marked = r"[\s;,.]*".join(rf"(?<!\w)(?:\({a}\)|{a}[.):：]) ?{text}(?!\w)" for a, text in letters)
    lines = r"\n".join(rf" ?(?:[-*•] |{_ANY_MARK})?{text} ?" for text in texts)
    return any(re.search(pattern, _spaced(prompt)) for pattern in (marked, rf"(?:^|\n|(?<=[?？.:：])){lines}(?:\n|$)"))


def _spaced(text: str) -> str:
    """Returns the text with one space or line break where it has more."""
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "\n".join(filter(None, lines))


def _of_prompt(prompt: str) -> list[str]:
    """Returns the options of the last run of lettered lines that has at least two of them."""
    runs: list[list[re.Match[str]]] = []
    for mark in _LINE.finditer(prompt):
        letter = _letter(mark)
        if letter == "A":
            runs.append([mark])
        elif runs and letter == _next(runs[-1]) and _style(mark) == _style(runs[-1][0]):
            runs[-1].append(mark)  # any other mark is part of an option's text
    for run in reversed(runs):
        texts = _between(run, prompt) if len(run) > 1 else _in_line(run[0], prompt)
        if texts:
            return texts
    return []


def _between(run: Sequence[re.Match[str]], prompt: str) -> list[str]:
    """Returns the texts after the marks; the last one ends with its line, since instructions may follow."""
    ends = [mark.start() for mark in run[1:]]
    last = _rest_of_line(run[-1], prompt)
    texts = [prompt[mark.end() : end] for mark, end in zip(run, ends, strict=False)]
    return [text.strip() for text in (*texts, last)]


def _in_line(first: re.Match[str], prompt: str) -> list[str]:
    """Returns the options of a run in one line, as in `Options: A: a cat, B: a dog`; empty if the line has none."""
    line = _rest_of_line(first, prompt)
    run, gaps, start, texts = [first], [], 0, []
    for mark in _INLINE.finditer(line):
        if _letter(mark) == _next(run) and _style(mark) == _style(first):
            texts.append(line[start : mark.start()].strip())
            run.append(mark)
            gaps.append(mark["gap"])
            start = mark.end()
    separated = first["word"] or all(gap.strip() for gap in gaps)  # "A. Smith met B. Jones" has no options
    return [*texts, line[start:].strip()] if texts and separated else []


def _rest_of_line(mark: re.Match[str], prompt: str) -> str:
    return prompt[mark.end() :].split("\n", 1)[0]


def _letter(mark: re.Match[str]) -> str:
    return mark["bracketed"] or mark["letter"]


def _style(mark: re.Match[str]) -> str | None:
    sign: str | None = mark["sign"]
    return sign


def _next(run: Sequence[re.Match[str]]) -> str:
    """Returns the letter that continues a run, nothing after Z."""
    return ascii_uppercase[len(run) : len(run) + 1]
