"""Parts that many published records have: options in columns, lists in cells, and thinking before a reply."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import BeforeValidator

_THOUGHT_ENDS: Final = ("</think>", "◁/think▷")
_THOUGHT_START: Final = re.compile(r"\A\s*(?:<think>|◁think▷)")
_PLACEHOLDER: Final = re.compile(r"[ \t]*<image(?:[ _]?\d+)?>[ \t]*\n?", re.IGNORECASE)


def split_thought(text: str) -> tuple[str, str]:
    """Returns the thinking and the reply of a thinking model. A template may have opened the tag before the text."""
    for tag in _THOUGHT_ENDS:
        thought, found, reply = text.rpartition(tag)
        if found:
            return _THOUGHT_START.sub("", thought).strip(), reply.strip()
    return "", text


def without_placeholder(question: str) -> str:
    """Returns a question without a single `<image>`. Several of them mark places and stay."""
    return _PLACEHOLDER.sub("", question).strip() if len(_PLACEHOLDER.findall(question)) == 1 else question.strip()


def lettered_options(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the texts of the columns `A`, `B`, ... up to the first empty one."""
    options = []
    for letter in "ABCDEFGHIJ":
        text = "" if is_blank(fields.get(letter)) else str(fields[letter]).strip()
        if not text:
            break
        options.append(text)
    return tuple(options)


def is_blank(value: Any) -> bool:
    """Returns whether a value is missing: None, empty text or not a number."""
    return value is None or value == "" or (isinstance(value, float) and value != value)


def listed(value: Any) -> Any:
    """Returns a list that a cell of a table has as text, any other value as it is."""
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            return ast.literal_eval(value.strip())
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            raise ValueError("not a list") from None
    return [] if is_blank(value) else value


def option_texts(value: Any) -> tuple[str, ...]:
    """Returns the options of a field; none if it is no list."""
    options = listed(value)
    return tuple(map(str, options)) if isinstance(options, list | tuple) else ()


def one_each(name: str, given: Sequence[Any] | None, count: int, of: str = "candidates") -> Sequence[Any]:
    """Returns a value for each candidate or step, None where the record has no such list.

    Raises:
        ValueError: The list has another length.
    """
    if given is not None and len(given) != count:
        raise ValueError(f"{name}: {len(given)} for {count} {of}")
    return (None,) * count if given is None else given


MaybeAnswer = Annotated[str | None, BeforeValidator(lambda value: None if is_blank(value) else str(value))]
"""An answer; None if it is missing."""

TextTuple = Annotated[tuple[str, ...], BeforeValidator(listed)]
"""Texts in a list, or in a list that is written as text."""
