"""Pairs for preference tuning: two ways to go on from the same steps of the same question, the better one first."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Self

from annotated_types import MinLen
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.training.chains import Reject, Text, faults, image_fault, numbered_lines


class Pair(BaseModel):
    """A question, the steps so far, and two continuations.

    Attributes:
        id: Unique in its file.
        question: As it is asked, options included.
        images: Files, relative to the pairs' own.
        history: Steps that both go on from.
        chosen: The better continuation, one step or more.
        rejected: The worse one.
        format: The prompt format the pair is to be learned in; None for the command's.
    """

    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)

    id: Text
    question: Text
    images: tuple[str, ...] = ()
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
    pairs: list[Pair] = []
    rejects: list[Reject] = []
    seen: set[str] = set()
    faulty: dict[str, str | None] = {}
    for where, line in numbered_lines(file):
        try:
            record = json.loads(line)
            pair = Pair.model_validate(record)
        except json.JSONDecodeError as error:
            rejects.append(Reject(where, f"no JSON: {error}", line))
            continue
        except ValidationError as error:
            rejects.append(Reject(where, faults(error), record))
            continue
        for image in pair.images:
            if image not in faulty:
                faulty[image] = image_fault(file.parent / image)
        broken = [f"image {image}: {faulty[image]}" for image in pair.images if faulty[image]]
        reason = f"the id {pair.id!r} occurred before" if pair.id in seen else "; ".join(broken)
        if reason:
            rejects.append(Reject(where, reason, record))
            continue
        seen.add(pair.id)
        pairs.append(pair)
    return Pairs(file.parent, tuple(pairs), tuple(rejects))


def no_pairs(read: int, rejects: tuple[Reject, ...] | list[Reject]) -> AtomThinkError:
    """Returns the error for data without any usable pair."""
    first = f"; the first: {rejects[0].where}: {rejects[0].reason}" if rejects else ""
    return AtomThinkError(f"`data` has no pair that can be learned: {read} read, all set aside{first}")
