"""An outcome as HTML for notebooks: the question, the answer, the chosen steps, the search tree and the costs.

The HTML has no scripts and makes no network requests. It stays readable where a viewer removes styles, as GitHub does:
colours and lines are in the picture of the tree only, which is an embedded image for this reason.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final

from atomthink_plugin.api import Node, Outcome, Question, Stopped
from atomthink_plugin.redaction import printable
from atomthink_plugin.report.choice_reason import confirmed_reason
from atomthink_plugin.report.node_status import FinishedTree, NodeStatus, statuses
from atomthink_plugin.report.page_images import thumbnail
from atomthink_plugin.report.tree_names import readable_note, tree_names
from atomthink_plugin.report.tree_svg import KINDS, TreePicture, score_colour, shown_nodes, tree_svg

MOST_STEPS: Final = 40
"""The largest number of steps of the chosen path that are shown."""

MOST_TEXT: Final = 1500
"""The largest number of characters of one text."""

MOST_NODE_TEXT: Final = 300
"""The same in the list of all nodes."""

MOST_IMAGES: Final = 4
"""The largest number of images that are shown."""

_IMAGE_BYTES: Final = 40_000

_STOPPED: Final[Mapping[Stopped, str]] = {
    "final": "a final answer",
    "depth": "the limit of steps",
    "length": "the limit of tokens",
    "budget": "the budget",
    "invalid": "no valid next step",
}

_CELL: Final = "text-align:left;vertical-align:top;white-space:normal;padding:.25em .7em .25em 0"
_WRITTEN: Final = "white-space:pre-wrap;overflow-wrap:anywhere"
_PILL: Final = "display:inline-block;min-width:2.6em;text-align:center;border-radius:1em;padding:0 .5em;color:#14171c"


def outcome_html(outcome: Outcome, question: Question, search: Mapping[str, Any]) -> str:
    """Returns the HTML of an outcome. Its size is bounded: it says what it leaves out of a large one.

    Args:
        outcome: The outcome. Without its nodes, the tree is left out.
        question: The question.
        search: The search in the settings of a run: `name` and the given arguments.
    """
    tree = FinishedTree(outcome)
    status = statuses(tree, search)
    reason = confirmed_reason(outcome, search, tree, status) if outcome.nodes else None
    parts = [
        *_asked(question),
        f"<p><b>Answer: {_written(outcome.answer) if outcome.answer is not None else 'none'}</b></p>",
        f"<p>{_written(reason)}</p>" if reason else "",
        *_steps(outcome),
        *(_tree(tree, status, search) if outcome.nodes else ()),
        f"<p>The search ended by {_STOPPED[outcome.stopped]}. {_cost(outcome)}</p>",
    ]
    return f'<div style="max-width:76em;line-height:1.45">{"".join(parts)}</div>'


def _asked(question: Question) -> Iterator[str]:
    images = question.images
    if images:
        yield "<p>" + " ".join(_image(thumbnail(image, _IMAGE_BYTES)[0]) for image in images[:MOST_IMAGES]) + "</p>"
    if len(images) > MOST_IMAGES:
        yield f"<p>{len(images) - MOST_IMAGES} more images are not shown.</p>"
    yield f"<p>{_written(question.text)}</p>"


def _image(webp: bytes) -> str:
    content = base64.b64encode(webp).decode("ascii")
    return f'<img alt="image of the question" height="200" src="data:image/webp;base64,{content}">'


def _steps(outcome: Outcome) -> Iterator[str]:
    """Yields the table of the chosen path."""
    pairs = list(zip(outcome.scores, outcome.steps, strict=True))[:MOST_STEPS]
    if pairs:
        yield _table(("score", "chosen steps"), ((_pill(score), _written(step)) for score, step in pairs))
    if len(outcome.steps) > len(pairs):
        yield f"<p>{len(outcome.steps) - len(pairs)} more steps are not shown.</p>"


def _tree(tree: FinishedTree, status: Mapping[str, NodeStatus], search: Mapping[str, Any]) -> Iterator[str]:
    """Yields the picture of the tree and, folded, the texts of its nodes."""
    nodes = shown_nodes(tree, status)
    total = len(tree.nodes)
    names = dict(zip(tree.roots, tree_names(tree, search), strict=True)) if len(tree.roots) > 1 else None
    shown = {tree.root(node) for node in nodes}
    heads = names and {key: name for key, name in names.items() if key in shown}
    yield _picture(tree_svg(status, nodes, heads), f"search tree of {total} nodes, whose texts are in the list below")
    if len(nodes) < total:
        yield f"<p>{total - len(nodes):,} of {total:,} nodes are not shown.</p>"
    rows = (_node(node, status[node.id], tree) for node in nodes)
    yield (
        f"<details><summary>Texts of {len(nodes)} nodes</summary>"
        f"{_table(('step', 'score', 'status', 'text'), rows)}</details>"
    )


def _picture(picture: TreePicture, description: str) -> str:
    content = base64.b64encode(picture.svg.encode()).decode("ascii")
    size = f'width="{picture.width}" height="{picture.height}"'
    # A wide picture scrolls: made smaller, its numbers could not be read.
    return (
        f'<div style="overflow-x:auto"><img alt="{description}" {size} style="max-width:none" '
        f'src="data:image/svg+xml;base64,{content}"></div>'
    )


def _node(node: Node, status: NodeStatus, tree: FinishedTree) -> Sequence[str]:
    words = [
        f"rejected: {_written(node.rejected, MOST_NODE_TEXT)}" if node.rejected is not None else KINDS[status.kind]
    ]
    if not node.is_step and status.kind != "side":
        words.append("no step")
    if status.kind == "pruned":
        words.append(f"{status.rank} of {status.of}, {status.kept} kept")
    if node.multiplicity > 1:
        words.append(f"drawn {node.multiplicity} times")
    if node.use:
        words.append(f"asked for: {_written(node.use)}")
    elif not node.is_step:
        words.append("written by the search")
    if node.unit not in ("step", node.use):
        words.append(_written(node.unit, MOST_NODE_TEXT))
    if node.reason:
        words.append(f"critique: {_written(node.reason, MOST_NODE_TEXT)}")
    if node.note:
        words.append(_written(readable_note(node.note, tree), MOST_NODE_TEXT))
    return str(status.depth), _pill(node.score), "; ".join(words), _written(node.text, MOST_NODE_TEXT)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [_row("th", heads), *(_row("td", row) for row in rows)]
    return f'<table style="margin:.6em 0;table-layout:auto">{"".join(lines)}</table>'


def _row(cell: str, texts: Sequence[str]) -> str:
    cells = "".join(f'<{cell} style="{_CELL}">{text}</{cell}>' for text in texts)
    return f"<tr>{cells}</tr>"


def _pill(score: float | None) -> str:
    if score is None:
        return ""
    return f'<span style="{_PILL};background:{score_colour(score)}">{score:.2f}</span>'


def _written(text: str, most: int = MOST_TEXT) -> str:
    """Returns a text of a model or a user as HTML, of at most `most` characters."""
    clean = printable(text).encode("utf-8", "replace").decode()
    more = f"… ({len(clean) - most:,} more characters)" if len(clean) > most else ""
    return f'<span dir="auto" style="{_WRITTEN}">{escape(clean[:most])}</span>{more}'


def _cost(outcome: Outcome) -> str:
    used = outcome.usage
    cached = f" ({used.cached:,} more came from the cache)" if used.cached else ""
    judged = f" with critiques of {used.judged:,} tokens" if used.judged else ""
    return (
        f"It sampled {used.policy_calls:,} candidates ({used.generated:,} tokens), "
        f"scored {used.score_calls:,}{judged}, "
        f"prefilled {used.prefilled:,} prompt tokens{cached}, and took {used.seconds:.1f} s."
    )
