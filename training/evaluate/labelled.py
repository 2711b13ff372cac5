"""Chains whose steps are labelled, from whatever format: what readers return and measures take."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from atomthink_plugin.api import Question
from atomthink_plugin.inference.image_input import read_image
from atomthink_plugin.training.images import Picture
from atomthink_plugin.training.records import Chain, Reject, engine_question

RIGHT: Final = 0.5
"""Labels from here on count as right."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A labelled chain and what is known about it.

    Attributes:
        chain: The question, the steps and their labels; its images are named only.
        question: Identity of the question: chains with the same one are about the same question.
        subset: The part of the set it is in: a source, a task, a kind of error; empty where there are none.
        pictures: The question's images, in reading order.
        right: Whether the final answer is right; None where that is not known.
    """

    chain: Chain
    question: str
    subset: str = ""
    pictures: tuple[Picture, ...] = ()
    right: bool | None = None

    @property
    def labels(self) -> tuple[bool | None, ...]:
        """Whether each step is right; None where that is not known."""
        return tuple(None if label is None else label >= RIGHT for label in self.chain.labels or ())

    @property
    def known(self) -> bool:
        """Whether it is known where the first wrong step is, or that there is none."""
        labels = self.labels
        return None not in (labels if self.first_error is None else labels[: self.first_error])

    @property
    def first_error(self) -> int | None:
        """Index of the first step that is labelled wrong."""
        return self.chain.first_error()

    def asked(self) -> Question:
        """Returns the question as the engine asks it, images read."""
        return engine_question(self.chain.id, self.chain.question, [read_image(picture) for picture in self.pictures])

    def key(self) -> str:
        """Returns a digest of all that a PRM sees: question, images, steps."""
        digest = hashlib.blake2b(digest_size=12)
        contents = (p if isinstance(p, bytes) else p.read_bytes() for p in self.pictures)
        texts = (text.encode("utf-8", "surrogatepass") for text in (self.chain.question, *self.chain.steps))
        for part in (*contents, b"", *texts):
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands.

    Attributes:
        file: Its file, or the hub dataset it is from.
        number: Its number there, from 1.
        split: Name of the file without its ending, or of the hub dataset's split.
        folder: What image files are relative to.
    """

    file: str
    number: int
    split: str
    folder: Path

    def __str__(self) -> str:
        """As rejects name it."""
        return f"{self.file}:{self.number}"


@dataclass(frozen=True, slots=True)
class Reader:
    """One format.

    Attributes:
        fields: A record that has all of them is taken for one of this format.
        read: Turns a record into chains. The first is the record's own; further ones may come with several records
            and count once. Raises ValueError, pydantic's included, where the record cannot be used.
    """

    fields: frozenset[str]
    read: Callable[[Mapping[str, Any], Place], Sequence[Labelled]]


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """All that was read: every record is one that was used or one of the rejects.

    Attributes:
        format: Name of the format.
        records: How many there are.
        chains: What the used ones gave.
        rejects: The others.
    """

    format: str
    records: int
    chains: tuple[Labelled, ...]
    rejects: tuple[Reject, ...]


def upto_error(steps: int, first_error: int | None) -> tuple[float | None, ...]:
    """Returns the labels of a chain of which the first wrong step is known, and nothing behind it.

    Raises:
        ValueError: There is no such step.
    """
    if first_error is None:
        return (1.0,) * steps
    if not 0 <= first_error < steps:
        raise ValueError(f"step {first_error} is said to be wrong and the {steps} steps are numbered from 0")
    return (*(1.0,) * first_error, 0.0, *(None,) * (steps - first_error - 1))
