"""What each tree of a finished search is, and what searches noted about nodes, for people to read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from atomthink_plugin.api import FURTHER_ROOT
from atomthink_plugin.report.node_status import FinishedTree

_ID: Final = re.compile(r"\b[0-9a-f]{16}\b")
_QUOTED: Final = 40  # letters of a node's text in the place of its id

_UNNOTED: Final[Mapping[str, str]] = {
    "self_refine": "a new draft",
    "workflow": "the composition of the parts",
    "least_to_most": "the question with the answers to its subquestions",
    "shuffle_vote": "the options in another order",
    "two_stage": "the question without its image",
}
"""What a further tree without such a note is, by the search."""


def readable_note(note: str, tree: FinishedTree) -> str:
    """Returns a note with the beginnings of nodes' texts in the place of their ids."""

    def quoted(found: re.Match[str]) -> str:
        node = tree.nodes.get(found[0])
        if node is None:
            return found[0]
        text = " ".join(node.text.split())
        return f"“{text if len(text) <= _QUOTED else text[: _QUOTED - 1] + '…'}”"

    return _ID.sub(quoted, note)


def tree_names(tree: FinishedTree, search: Mapping[str, Any]) -> Sequence[str]:
    """Returns what the tree of each root is, in the order of `FinishedTree.roots`."""
    return [_name(key, tree.purposes.get(key, {}), search) for key in tree.roots]


def _name(root: str, notes: Mapping[str, str], search: Mapping[str, Any]) -> str:
    said = ", ".join(f"{key} {value}" for key, value in notes.items())
    if not root.startswith(FURTHER_ROOT):
        return f"the question: {said}" if said else "the question"
    return said or _UNNOTED.get(str(search.get("name")), "another question of the search")
