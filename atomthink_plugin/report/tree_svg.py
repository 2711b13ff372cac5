"""A search tree as an SVG picture: one column per step, the chosen path along the top.

The picture has the layout and the colours of the map in the page of `atomthink view`, without scripts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import Final

from atomthink_plugin.api import Node
from atomthink_plugin.redaction import printable
from atomthink_plugin.report.node_notes import short_note
from atomthink_plugin.report.node_status import FinishedTree, Kind, NodeStatus, preorder
from atomthink_plugin.report.output_files import base_style
from atomthink_plugin.report.tree_layout import Cell, follows, layout

MOST_NODES: Final = 150
"""The largest number of nodes in a picture."""

_NOT_XML: Final = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_LEFT, _TOP, _COLUMN, _LINE, _BOX, _HEIGHT = 34, 34, 66, 32, 44, 22  # of the picture, a cell and a box
_LETTER: Final = 7.5  # width of a letter of an answer
_ANSWER: Final = 14  # letters of an answer
_SMALL: Final = 6.1  # width of a letter of a note
_MARK: Final = 7  # letters of what a text was asked for
_HEAD: Final = 10  # letters of the name of a unit
_LEGEND: Final = 32  # height
_LEAST_WIDTH: Final = 640  # of the legend

_STYLE: Final = """
:root { background: none; font: 12px var(--mono); }
.card { fill: var(--panel); stroke: var(--rule); }
.head { fill: var(--quiet); font: 11px system-ui, sans-serif; }
.root { fill: var(--accent); }
.edge { fill: none; stroke: light-dark(#b3bac6, #555d6b); stroke-width: 1.5; }
.edge.chosen { stroke: var(--accent); stroke-width: 4; }
.edge.pruned { stroke-dasharray: 5 4; }
.edge.rejected, .edge.side { stroke-dasharray: 1.5 4; stroke-linecap: round; }
.box { stroke: light-dark(#8d95a3, #0000); stroke-width: .75; }
.unscored { fill: var(--unscored); }
.pruned .box, .pruned .score { opacity: .62; }
.chosen .box { stroke: var(--accent); stroke-width: 2.5; }
.rejected .box { stroke: var(--quiet); stroke-dasharray: 2 3; }
.score { fill: #14171c; font-weight: 600; }
.unscored + .score { fill: var(--ink); }
.times, .note { fill: var(--quiet); font-size: 10px; }
.note { paint-order: stroke; stroke: var(--panel); stroke-width: 3px; }
.tree-head { fill: var(--ink); font: 600 11px system-ui, sans-serif; }
.answer { fill: var(--ink); }
.chosen .answer { fill: var(--accent); font-weight: 700; }
"""

KINDS: Final[Mapping[Kind, str]] = {
    "chosen": "chosen",
    "continued": "extended",
    "finished": "finished",
    "pruned": "pruned",
    "rejected": "rejected",
    "ended": "not extended",
    "side": "no step",
}
"""What the kinds of a node's status are called."""


@dataclass(frozen=True, slots=True)
class TreePicture:
    """A picture of a tree.

    Attributes:
        svg: The picture.
        width: Its width in pixels.
        height: Its height in pixels.
    """

    svg: str
    width: int
    height: int


def shown_nodes(tree: FinishedTree, status: Mapping[str, NodeStatus], most: int = MOST_NODES) -> list[Node]:
    """Returns the nodes of a picture, in the order of `preorder`, each with all nodes above it.

    Of a larger tree these are the chosen path, then the alternatives to its steps, then the other finished paths, and
    then the nodes nearest to the root.

    Args:
        tree: The tree.
        status: The status of each node.
        most: The largest number of nodes.
    """
    order = preorder(tree, status)
    if len(order) <= most:
        return order
    path = [tree.nodes[key] for key in tree.chosen]
    parents = {node.parent for node in path}
    beside = (node for node in order if node.parent in parents)
    nearest = sorted(order, key=lambda node: status[node.id].depth)
    kept: set[str] = set()
    for node in (*path, *beside, *tree.finished, *nearest):
        missing = {step.id for step in tree.lineage(node)} - kept
        if len(kept) + len(missing) <= most:
            kept |= missing
    return [node for node in order if node.id in kept]


def tree_svg(
    status: Mapping[str, NodeStatus], nodes: Sequence[Node], names: Mapping[str, str] | None = None
) -> TreePicture:
    """Returns the picture. It follows the light or dark colour scheme of its page.

    Args:
        status: The status of each node.
        nodes: The nodes to draw, see `shown_nodes`.
        names: The heading of each root's tree, if there are several.
    """
    cells, roots = layout(nodes, headed=bool(names))
    size = _Size.of(nodes)
    placed = list(zip(nodes, cells, strict=True))
    columns, lines = max(cell.column for cell in cells), max(cell.line for cell in cells) + 1
    letters = max((min(len(node.answer), _ANSWER) for node in nodes if node.answer is not None), default=0)
    bottom = _TOP + lines * size.line
    legend, end = _legend(nodes, {status[node.id].kind for node in nodes}, bottom + 18)
    width = round(max(_LEFT + columns * size.column + letters * _LETTER, end, _LEAST_WIDTH))
    above = {node.id: cell for node, cell in placed}
    edges = [
        (status[node.id].kind, _edge(size, cell, above.get(node.parent), roots.get(node.parent, 0)))
        for node, cell in placed
    ]
    edges.sort(key=lambda edge: edge[0] == "chosen")  # the chosen path is drawn above the others
    heads = _heads(placed, status)
    parts = [
        f'<rect class="card" x=".5" y=".5" width="{width - 1}" height="{bottom + _LEGEND - 1}" rx="10"/>',
        *(f'<circle class="root" cx="12" cy="{size.y(line):g}" r="5"/>' for line in roots.values()),
        *(_text("tree-head", 8, size.y(roots[key] - 1) + 8, name) for key, name in (names or {}).items()),
        *(_text("head", size.x(k) + _BOX / 2, 17, heads[k], "middle") for k in range(1, columns + 1)),
        *(f'<path class="edge {kind}" d="{way}"/>' for kind, way in edges),
        *(
            _node(node, size.x(cell.column), size.y(cell.line), status[node.id].kind, not follows(nodes, i + 1))
            for i, (node, cell) in enumerate(placed)
        ),
        *legend,
    ]
    height = bottom + _LEGEND
    shape = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    style = f"<style>{base_style()}{_STYLE}</style>"
    return TreePicture(f'<svg xmlns="http://www.w3.org/2000/svg" {shape}>{style}{"".join(parts)}</svg>', width, height)


@dataclass(frozen=True, slots=True)
class _Size:
    """The width of a column and the height of a line. Notes need wider columns and higher lines."""

    column: float
    line: int

    @classmethod
    def of(cls, nodes: Sequence[Node]) -> _Size:
        letters = max(len(short_note(node.note)) for node in nodes)
        return cls(max(_COLUMN, 10 + letters * _SMALL), _LINE + 15 if letters else _LINE)

    def x(self, column: int) -> float:
        """Returns the left end of the boxes in a column."""
        return _LEFT + (column - 1) * self.column

    def y(self, line: int) -> float:
        """Returns the middle of the boxes in a line."""
        return _TOP + line * self.line + _HEIGHT / 2


def _heads(placed: Sequence[tuple[Node, Cell]], status: Mapping[str, NodeStatus]) -> Mapping[int, str]:
    """Returns the name of the unit of each column's chains if they have one in common, else the number of the step."""
    units: dict[int, set[str]] = {}
    for node, cell in placed:
        units.setdefault(cell.column, set()).update({node.unit} if status[node.id].kind != "side" else ())
    return {column: _head(column, found) for column, found in units.items()}


def _head(column: int, units: Set[str]) -> str:
    if len(units) == 1 and "step" not in units:
        return shortened(next(iter(units)), _HEAD)
    return f"step {column}" if units else ""


def _edge(size: _Size, cell: Cell, above: Cell | None, root: int) -> str:
    """Returns the curve from the node above, or from the root in the line `root`, to a node."""
    x, y = size.x(cell.column), size.y(cell.line)
    start = 12 if above is None else size.x(above.column) + _BOX
    top = size.y(root if above is None else above.line)
    bend = (start + x) / 2
    return f"M{start:g} {top:g}C{bend:g} {top:g} {bend:g} {y:g} {x:g} {y:g}"


def _node(node: Node, x: float, y: float, kind: Kind, ends: bool) -> str:
    corner = 0 if not node.is_step else 11 if node.answer is None else 4
    fill = ' class="box unscored"' if node.score is None else f' class="box" fill="{score_colour(node.score)}"'
    box = f'<rect{fill} x="{x:g}" y="{y - _HEIGHT / 2:g}" width="{_BOX}" height="{_HEIGHT}" rx="{corner}"/>'
    parts = [box, _text("score", x + _BOX / 2, y + 4, _label(node), "middle")]
    if node.multiplicity > 1:
        parts.append(_text("times", x + _BOX - 2, y - _HEIGHT / 2 - 2, f"×{node.multiplicity}", "end"))
    if note := short_note(node.note):
        parts.append(_text("note", x, y + _HEIGHT / 2 + 11, note))
    if node.answer is not None and ends:
        parts.append(_text("answer", x + _BOX + 8, y + 4, shortened(node.answer, _ANSWER)))
    return f'<g class="{kind}" data-node="{escape(node.id)}">{"".join(parts)}</g>'


def _label(node: Node) -> str:
    if node.score is not None:
        return "1.0" if node.score >= 0.995 else f"{node.score:.2f}"[1:]
    if not node.is_step:
        return shortened(node.use or "written", _MARK)
    return "·" if node.rejected is None else "×"


def _text(style: str, x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'


def _legend(nodes: Sequence[Node], kinds: Set[Kind], y: float) -> tuple[list[str], float]:
    """Returns the keys of what the picture has, from left to right, and where they end."""
    x = 12.0
    parts: list[str] = []
    if any(node.score is not None for node in nodes):
        parts.append(_text("head", x, y, "step score 0"))
        for i in range(10):
            colour = score_colour((i + 0.5) / 10)
            parts.append(f'<rect fill="{colour}" x="{x + 70 + 6 * i:g}" y="{y - 8}" width="6" height="8"/>')
        parts.append(_text("head", x + 134, y, "1"))
        x += 156
    for kind in KINDS:
        if kind in kinds and kind not in ("continued", "ended"):
            parts.append(
                f'<path class="edge {kind}" d="M{x:g} {y - 4}h20"/>'
                if kind != "finished"
                else f'<rect class="box unscored" x="{x + 4:g}" y="{y - 9}" width="14" height="10" rx="3"/>'
            )
            parts.append(_text("head", x + 25, y, KINDS[kind]))
            x += 40 + 6 * len(KINDS[kind])
    said = {
        "×n identical samples": any(node.multiplicity > 1 for node in nodes),
        "under a box: what the search noted": any(short_note(node.note) for node in nodes),
    }
    for text in (text for text, there in said.items() if there):
        parts.append(_text("head", x, y, text))
        x += 14 + 5.6 * len(text)
    return parts, x


def shortened(text: str, letters: int) -> str:
    """Returns a text in one line of at most `letters` letters, without characters that XML does not allow."""
    line = _NOT_XML.sub("\ufffd", " ".join(printable(text).split()))
    return line if len(line) <= letters else f"{line[: letters - 1]}…"


def score_colour(score: float) -> str:
    """Returns the colour of a score, from coral (0) through yellow to green (1), as `#rrggbb`."""
    ends = ("low", "middle") if score < 0.5 else ("middle", "high")
    share = min(max(score * 2 - (score >= 0.5), 0.0), 1.0)
    one, other = (_colour(f"score-{end}") for end in ends)
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in zip(one, other, strict=True))


@cache
def _colour(name: str) -> bytes:
    """Returns the red, green and blue of a colour of the pages' style sheet."""
    found = re.search(rf"--{name}: #([0-9a-f]{{6}});", base_style())
    assert found is not None
    return bytes.fromhex(found[1])
