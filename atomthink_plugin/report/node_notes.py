"""What searches noted about the nodes of a tree, see `SearchTree.note`, for people to read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from atomthink_plugin.api import FURTHER_ROOT, Node

if TYPE_CHECKING:
    from atomthink_plugin.report.node_status import FinishedTree

SHORT: Final = 20
"""Letters of a note under a box of a picture."""

_PAIR: Final = re.compile(r"(.*?) (\d\S*(?: .*)?|\S+)")
_ID: Final = re.compile(r"\b[0-9a-f]{16}\b")
_QUOTED: Final = 40  # letters of a node's text in the place of its id

_NAMED_BY: Final = ("draft", "part", "subquestion", "order")
"""Notes that say what a further tree is for."""

_UNNOTED: Final[Mapping[str, str]] = {
    "self_refine": "a new draft",
    "workflow": "the composition of the parts",
    "least_to_most": "the question with the answers to its subquestions",
    "shuffle_vote": "the options in another order",
    "two_stage": "the question without its image",
}
"""What a further tree without such a note is, by the search."""


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


def readable_note(note: str, tree: FinishedTree) -> str:
    """Returns a note with the beginnings of nodes' texts in the place of their ids."""

    def quoted(found: re.Match[str]) -> str:
        node = tree.nodes.get(found[0])
        if node is None:
            return found[0]
        text = " ".join(node.text.split())
        return f"“{text if len(text) <= _QUOTED else text[: _QUOTED - 1] + '…'}”"

    return _ID.sub(quoted, note)


def tree_notes(nodes: Sequence[Node]) -> dict[str, str]:
    """Returns what the notes in one tree say it is for, such as `{"part": "2 of 3"}`; empty if they do not."""
    found: dict[str, str] = {}
    for node in nodes:
        if node.note and node.is_step:
            for key, value in pairs_of(node.note).items():
                if key in _NAMED_BY:
                    found.setdefault(key, value)
    return found


def tree_names(tree: FinishedTree, search: Mapping[str, Any]) -> Sequence[str]:
    """Returns what the tree of each root is, in the order of `FinishedTree.roots`."""
    return [_name(key, tree.purposes.get(key, {}), search) for key in tree.roots]


def _name(root: str, notes: Mapping[str, str], search: Mapping[str, Any]) -> str:
    said = ", ".join(f"{key} {value}" for key, value in notes.items())
    if not root.startswith(FURTHER_ROOT):
        return f"the question: {said}" if said else "the question"
    return said or _UNNOTED.get(str(search.get("name")), "another question of the search")
