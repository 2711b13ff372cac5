"""The places of nodes in a picture of a search tree, as in the map of the page of `atomthink view`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atomthink_plugin.api import Node

_ANSWER_COLUMNS = 2  # for the answer at the end of a path


@dataclass(frozen=True, slots=True)
class Cell:
    """The place of a node.

    Attributes:
        column: Its step, from 1.
        line: Its line, from 0 at the top.
    """

    column: int
    line: int


def layout(nodes: Sequence[Node], headed: bool = False) -> tuple[list[Cell], dict[str, int]]:
    """Returns the place of each node, and the line of each root by its key.

    A first child is in its parent's line. Any other child starts on the next lower line with enough free columns.

    Args:
        nodes: In the order of `preorder`, each after its parent.
        headed: Whether the line above each root is left free for a heading.
    """
    cells: list[Cell] = []
    places: dict[str, Cell] = {}
    roots: dict[str, int] = {}
    used: dict[int, int] = {}  # the lowest used line of each column
    for i, node in enumerate(nodes):
        above = places.get(node.parent)
        if above is None:
            line = roots.setdefault(node.parent, max(used.values(), default=-1) + (2 if headed else 1))
            above = Cell(0, line - 1)
        column = above.column + 1
        if follows(nodes, i):
            cell = Cell(column, above.line)
        else:
            columns = range(column, column + _reach(nodes, i))
            line = max(above.line, *(used.get(k, -1) for k in columns)) + 1
            used.update(dict.fromkeys(columns, line))
            cell = Cell(column, line)
        cells.append(cell)
        places[node.id] = cell
    return cells, roots


def follows(nodes: Sequence[Node], i: int) -> bool:
    """Returns whether a node is in its parent's line: its first child, unless the parent's answer is drawn there."""
    return 0 < i < len(nodes) and nodes[i].parent == nodes[i - 1].id and nodes[i - 1].answer is None


def _reach(nodes: Sequence[Node], start: int) -> int:
    """Returns the number of columns that a line needs."""
    end = start
    while follows(nodes, end + 1):
        end += 1
    return end - start + 1 + (0 if nodes[end].answer is None else _ANSWER_COLUMNS)
