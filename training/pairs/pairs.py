"""Pairs for preference tuning: two continuations of the same steps of the same question, the better one first."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Self

from annotated_types import MinLen
from pydantic import model_validator

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.training.records import (
    QuestionRecord,
    Reject,
    Text,
    first_reason,
    read_records,
    with_readable_images,
)


class Pair(QuestionRecord):
    """A question, the steps so far, and two continuations.

    Attributes:
        history: Steps that both continue.
        chosen: The better continuation, one step or more.
        rejected: The worse one.
        format: The prompt format the pair is to be learned in; None for the command's.
    """

    history: tuple[Text, ...] = ()
    chosen: Annotated[tuple[Text, ...], MinLen(1)]
    rejected: Annotated[tuple[Text, ...], MinLen(1)]
    format: str | None = None

    @model_validator(mode="after")
    def _two_sides(self) -> Self:
        if self.chosen == self.rejected:
            raise ValueError("chosen and rejected are the same")
        return self


@dataclass(frozen=True, slots=True)
class Pairs:
    """What a file holds: pairs and rejects together are all its records.

    Attributes:
        folder: What the pairs' images are relative to.
        pairs: The usable ones.
        rejects: The others.
    """

    folder: Path
    pairs: tuple[Pair, ...]
    rejects: tuple[Reject, ...] = field(default=())


def read_pairs(file: Path) -> Pairs:
    """Returns the pairs of a JSONL file; records and images that cannot be read are among its rejects.

    Raises:
        AtomThinkError: There is no such file.
    """
    pairs, rejects = with_readable_images(file, *read_records(file, Pair))
    return Pairs(file.parent, tuple(pairs), tuple(rejects))


def no_pairs(read: int, rejects: tuple[Reject, ...] | list[Reject]) -> AtomThinkError:
    """Returns the error for data without any usable pair."""
    return AtomThinkError(f"`data` has no pair that can be learned: {read} read, all set aside{first_reason(rejects)}")
