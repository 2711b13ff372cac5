"""Labelled chains as a PRM is trained on them, in the layout of the scorers.

A step is judged at the position at which the scorer reads it, its tag's; the row's ids are those that the scorer
would send, so that training and reading cannot differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from atomthink_plugin import api
from atomthink_plugin.api import WHOLE, QuestionError, Step
from atomthink_plugin.inference.encoding import Encoding
from atomthink_plugin.scorers.prm_token import ChatLayout, Layout
from atomthink_plugin.training.train.tokens import early_stop


@dataclass(frozen=True, slots=True)
class Judged:
    """A position at which a step is judged.

    Attributes:
        at: Position in the row.
        right: Probability that the step is right.
    """

    at: int
    right: float


@dataclass(frozen=True, slots=True)
class Said:
    """A token that the model should say itself: those of right steps, and where a wrong one first leaves the right one.

    Attributes:
        at: Position whose logits predict it.
        token: Its id.
    """

    at: int
    token: int


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence with what is learned from it.

    Attributes:
        encoding: The scorer's input; it ends at the last step's tag.
        steps: The judged steps, at their tags.
        along: Tokens of these steps, each judged by whether the step is right so far; only where that is known.
        said: Tokens to be predicted.
    """

    encoding: Encoding
    steps: tuple[Judged, ...]
    along: tuple[Judged, ...] = ()
    said: tuple[Said, ...] = ()


@dataclass(frozen=True, slots=True)
class Labelled:
    """A step of a path with its label and, for a wrong one, what would have been right."""

    node: api.Path
    label: float
    correction: str | None


@dataclass(frozen=True, slots=True)
class Laid:
    """A sequence with steps of one chain.

    Attributes:
        encoding: The scorer's input.
        tags: Positions of the tags in the reply, one after each step in it.
        steps: Those that are judged in it.
    """

    encoding: Encoding
    tags: Sequence[int]
    steps: Sequence[Labelled]


def laid_out(steps: Sequence[Labelled], layout: Layout, tag_id: int) -> list[Laid]:
    """Returns the sequences that judge `steps` of one chain, in their order.

    One has them all if the layout keeps a chain's steps and their tags in the reply; otherwise, as in a prompt that has
    the history inside the question, each step has one of its own.

    Args:
        steps: Labelled nodes of one path, the deepest last.
        layout: The scorer's.
        tag_id: Id of the token after every step.

    Raises:
        QuestionError: A step cannot be laid out; it contains what ends a step, for example.
    """
    last = steps[-1].node
    for node in last.lineage:
        _require_one_unit(node, layout)
    whole = layout.encode(last)
    # Where what is asked does not grow with the path, the reply has all its steps.
    if last.depth == 1 or layout.encode(last.lineage[0]).question == whole.question:
        return [Laid(whole, _tags(whole, tag_id, last.depth), steps)]
    alone = ((layout.encode(step.node), step) for step in steps)
    return [Laid(encoding, _tags(encoding, tag_id, 1), [step]) for encoding, step in alone]


def rows(steps: Sequence[Labelled], layout: Layout, tag_id: int) -> list[Row]:
    """Returns the rows that judge `steps` of one chain; see `laid_out`."""
    return [
        _row(laid, [_piece(step, laid, layout, tag_id) for step in laid.steps])
        for laid in laid_out(steps, layout, tag_id)
    ]


@dataclass(frozen=True, slots=True)
class _Piece:
    """Where a step stands, its label, and the ids of what would have been right."""

    start: int
    tag: int
    label: float
    correct: Sequence[int] | None


def _piece(step: Labelled, laid: Laid, layout: Layout, tag_id: int) -> _Piece:
    at = step.node.depth - 1 if len(laid.tags) > 1 else 0
    start = laid.tags[at - 1] + 1 if at else laid.encoding.question
    return _Piece(start, laid.tags[at], step.label, _corrected(step, layout, tag_id, start))


def _corrected(step: Labelled, layout: Layout, tag_id: int, start: int) -> Sequence[int] | None:
    """The ids of what would have been right; None where that is not known, or is no single step."""
    parent = step.node.parent
    if step.correction is None or parent is None:
        return None
    try:
        corrected = parent.extend(Step(step.correction))
        _require_one_unit(corrected, layout)
        ids = _ids(layout.encode(corrected))[start:-1]
    except QuestionError:
        return None
    return None if tag_id in ids else ids


def _require_one_unit(node: api.Path, layout: Layout) -> None:
    """Refuses a step that a policy would have ended earlier: its label would be that of several steps."""
    if not isinstance(layout, ChatLayout) or node.parent is None or node.step is None:
        return
    prompt, unit = layout.format.render(node.parent), layout.format.unit(node.parent) or WHOLE
    if stop := early_stop(prompt, unit, node.step.text):
        raise QuestionError(
            f"step {node.depth} holds {stop!r}, where a policy's step ends: make it two steps, each with its label"
        )


def _tags(encoding: Encoding, tag_id: int, steps: int) -> list[int]:
    """Returns the positions of the tags after steps, of which there have to be as many as steps."""
    tags = [at for at, token in enumerate(_ids(encoding)) if at >= encoding.question and token == tag_id]
    if len(tags) != steps:
        raise QuestionError(
            f"{len(tags)} tags for {steps} steps: a step holds what the PRM reads as its tag; take it out"
        )
    return tags


def _row(laid: Laid, pieces: Sequence[_Piece]) -> Row:
    ids = _ids(laid.encoding)
    told = [one for piece in pieces for one in _told(piece, ids[piece.start : piece.tag])]
    along = tuple(judged for judged, _ in told)
    said = tuple(word for _, word in told if word is not None)
    return Row(laid.encoding, tuple(Judged(piece.tag, piece.label) for piece in pieces), along, said)


def _told(piece: _Piece, ids: Sequence[int]) -> Iterator[tuple[Judged, Said | None]]:
    """Yields for each token of a step whether the step is right so far, and what should be said in its place."""
    if piece.label == 1:
        yield from ((Judged(at, 1.0), Said(at - 1, token)) for at, token in enumerate(ids, piece.start))
    elif piece.label < 0.5 and piece.correct is not None:
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(ids, piece.correct, strict=False)))
        for index in range(len(ids)):
            at = piece.start + index
            right = piece.correct[index] if index <= same and index < len(piece.correct) else None
            yield Judged(at, float(index < same)), None if right is None else Said(at - 1, right)


def _ids(encoding: Encoding) -> list[int]:
    ids: list[int] = encoding.tokens["input_ids"][0].tolist()
    return ids
