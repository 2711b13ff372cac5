"""The keys and values of what searches noted about nodes, see `SearchTree.note`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from atomthink_plugin.api import Node

SHORT: Final = 20
"""Letters of a note under a box of a picture."""

_PAIR: Final = re.compile(r"(.*?) (\d\S*(?: .*)?|\S+)")
_NAMED_BY: Final = ("draft", "part", "subquestion", "order")
"""Notes that say what a further tree is for."""


def pairs_of(note: str) -> dict[str, str]:
    """Returns the keys and values of a note; empty if it has none.

    Example:
        >>> pairs_of("visits 9, pool rank 2 of 8, kept yes")
        {'visits': '9', 'pool rank': '2 of 8', 'kept': 'yes'}
    """
    found = (_PAIR.fullmatch(part) for part in note.split(", "))
    return {pair[1]: pair[2] for pair in found if pair}


def short_note(note: str) -> str:
    """Returns the first parts of a note that fit under a box of a picture, as in the map of the page.

    Example:
        >>> short_note("visits 9, value 0.71, simulation 3")
        'visits 9, value 0.71'
    """
    parts = note.split(", ")
    while parts and len(", ".join(parts)) > SHORT:
        parts.pop()
    return ", ".join(parts)


def tree_notes(nodes: Sequence[Node]) -> dict[str, str]:
    """Returns what the notes in one tree say it is for, such as `{"part": "2 of 3"}`; empty if they do not."""
    found: dict[str, str] = {}
    for node in nodes:
        if node.note and node.is_step:
            for key, value in pairs_of(node.note).items():
                if key in _NAMED_BY:
                    found.setdefault(key, value)
    return found
