"""Which rows there are: one per step or one per chain, drawn from the records when they are needed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from atomthink_plugin.api import AtomThinkError, Format, Question, QuestionError
from atomthink_plugin.api import Path as Steps
from atomthink_plugin.formats.steps import stepwise
from atomthink_plugin.training.records import Chain, RecordFile, Reject, first_reason, read_records
from atomthink_plugin.training.train.measuring import measured
from atomthink_plugin.training.train.recipe import DataFile, PolicyRecipe
from atomthink_plugin.training.train.row_encoder import RowEncoder
from atomthink_plugin.training.train.tokens import Renderer, Row, format_of, packable, posed

P = TypeVar("P")


class Record(NamedTuple):
    """A chain and how it is learned.

    Attributes:
        chain: As it was read.
        folder: What its images are relative to.
        form: Its prompt format.
    """

    chain: Chain
    folder: Path
    form: Format

    def question(self, max_pixels: int | None, empty: bool = False) -> Question:
        """Returns the question with its images, or with empty ones of the same sizes."""
        return posed(self.chain, self.folder, max_pixels, empty)


@dataclass(frozen=True, slots=True)
class Samples:
    """All rows of a training, as numbers: what they hold is rendered when a batch needs it.

    Attributes:
        records: Chains that are learned.
        places: For each row a record and a step of it, or None for all its steps.
        rejects: Chains and steps that are not learned.
        read: How many chains the files hold, unusable ones included.
        steps_aside: How many single steps are among the rejects.
    """

    records: Sequence[Record]
    places: Sequence[tuple[int, int | None]]
    rejects: Sequence[Reject]
    read: int
    steps_aside: int

    @property
    def counts(self) -> str:
        """What became of the records, in one line."""
        aside = len(self.rejects) - self.steps_aside
        line = f"chains: {self.read} read, {self.read - aside} used, {aside} set aside; {len(self.places)} rows"
        return f"{line}, {self.steps_aside} steps set aside" if self.steps_aside else line


def samples_of(recipe: PolicyRecipe, encoder: RowEncoder, renderer: Renderer, longest: int | None) -> Samples:
    """Reads the files of a recipe and measures all their rows.

    Args:
        recipe: What to read, and how it is learned.
        encoder: The checkpoint's.
        renderer: The checkpoint's.
        longest: Tokens of the longest row; None for any.

    Raises:
        AtomThinkError: A file cannot be read, a format is unknown or cannot be packed, or nothing can be used.
    """
    records: list[Record] = []
    places: list[tuple[int, int | None]] = []
    rejects: list[Reject] = []
    read = aside = 0
    forms = Forms(recipe.one_row_per_chain)
    for data in recipe.data:
        default = data.format or recipe.format
        forms(default)
        found = read_records(data.file, Chain)
        rejects += found.rejects
        read += found.read
        rows: list[tuple[int, int | None]] = []
        known, unknown = _formed(found, forms, default)
        rejects += [_reject(f"{data.file.name}, id {chain.id!r}", reason, chain) for chain, reason in unknown]
        results = measured(known, partial(_rows, recipe, encoder, renderer, longest), recipe.dataloader_num_workers)
        for record, result in zip(known, results, strict=True):
            chain, where = record.chain, f"{data.file.name}, id {record.chain.id!r}"
            if isinstance(result, AtomThinkError):
                rejects.append(_reject(where, str(result), chain))
                continue
            good, bad = result
            if not good:
                rejects.append(_reject(where, "; ".join(dict.fromkeys(reason for _, reason in bad)), chain))
                continue
            rejects += [_reject(f"{where}, step {at + 1}", reason, chain) for at, reason in bad]
            aside += len(bad)
            rows += [(len(records), at) for at in good]
            records.append(record)
        places += drawn(rows, data, recipe.seed)
    if not places:
        raise AtomThinkError(
            f"`data` has nothing that can be learned: {read} chains, all set aside{first_reason(rejects)}"
        )
    return Samples(records, places, rejects, read, aside)


def row_of(samples: Samples, index: int, renderer: Renderer, max_pixels: int | None) -> Row:
    """Renders a row, images read."""
    at, step = samples.places[index]
    record = samples.records[at]
    question = record.question(max_pixels)
    if step is None:
        return renderer.chain(record.form, question, record.chain.steps)
    return renderer.step(record.form, question, record.chain.steps, step)


def drawn(rows: Sequence[P], data: DataFile, seed: int) -> Iterator[P]:
    """Yields each row as often as its file's weight says, what is left of it as a random part."""
    whole = int(data.weight)
    for _ in range(whole):
        yield from rows
    part = round((data.weight - whole) * len(rows))
    yield from random.Random(f"{seed} {data.file}").sample(rows, part)


class Forms:
    """Formats by name, each made once; in a packed training only those that can be packed.

    Args:
        packed: Whether a chain is one sequence.
    """

    def __init__(self, packed: bool) -> None:
        self._packed = packed
        self._made: dict[str, Format] = {}

    def __call__(self, name: str) -> Format:
        """Returns the format of that name.

        Raises:
            AtomThinkError: There is none, or it cannot be packed.
        """
        if name not in self._made:
            form = format_of(name)
            if self._packed and stepwise(form) and not packable(form):
                raise AtomThinkError(
                    f"`one_row_per_chain: true` with `format: {name}`: its prompt changes with every step, so that a "
                    "chain is not a single sequence; leave `one_row_per_chain` out, or use `format: continue`"
                )
            self._made[name] = form
        return self._made[name]


def _formed(found: RecordFile[Chain], forms: Forms, default: str) -> tuple[list[Record], list[tuple[Chain, str]]]:
    """Returns the chains of a file with their formats, and those whose format cannot be used with the reason."""
    known: list[Record] = []
    unknown: list[tuple[Chain, str]] = []
    for chain in found.records:
        try:
            known.append(Record(chain, found.folder, forms(chain.format or default)))
        except AtomThinkError as error:
            unknown.append((chain, str(error)))
    return known, unknown


def _rows(
    recipe: PolicyRecipe, encoder: RowEncoder, renderer: Renderer, longest: int | None, record: Record
) -> tuple[list[int | None], list[tuple[int, str]]]:
    """Returns a record's rows that can be learned, and its steps that cannot with the reason."""
    steps, form = record.chain.steps, record.form
    wrong = None if record.chain.labels is None else record.chain.first_error()
    if wrong is not None:
        raise QuestionError(f"step {wrong + 1} is labelled wrong: not to be learned")
    if not stepwise(form) and len(steps) != 1:
        raise QuestionError(f"{len(steps)} steps for a format of whole replies: make them one, or name another format")
    question = record.question(recipe.max_pixels, empty=True)
    if recipe.one_row_per_chain:
        length = encoder.length(form.render(Steps(question)))
        fits(length + sum(len(reply) for _, reply in renderer.turns(form, question, steps)), longest)
        return [None], []
    good: list[int | None] = []
    bad: list[tuple[int, str]] = []
    for at, (prompt, reply) in enumerate(renderer.turns(form, question, steps)):
        try:
            fits(encoder.length(prompt) + len(reply), longest)
        except QuestionError as error:
            bad.append((at, str(error)))
        else:
            good.append(at)
    return good, bad


def fits(length: int, longest: int | None) -> None:
    """Refuses a row that is too long.

    Raises:
        QuestionError: It has more than `longest` tokens.
    """
    if longest is not None and length > longest:
        raise QuestionError(f"{length} tokens, more than {longest}: raise max_length, or lower max_pixels")


def _reject(where: str, reason: str, chain: Chain) -> Reject:
    return Reject(where, reason, chain.model_dump(exclude_none=True))
