"""Which chains a PRM is trained on, and the rows that are made of them when a batch needs them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

from atomthink_plugin import api
from atomthink_plugin.api import AtomThinkError, Question, QuestionError, Step
from atomthink_plugin.training.records import Chain, Reject, first_reason, read_records
from atomthink_plugin.training.train.measuring import measured
from atomthink_plugin.training.train.prm_checkpoint import Writer
from atomthink_plugin.training.train.prm_recipe import PrmRecipe
from atomthink_plugin.training.train.prm_tokens import Labelled, Row, laid_out, rows
from atomthink_plugin.training.train.samples import Record, drawn, fits
from atomthink_plugin.training.train.tokens import format_of


@dataclass(frozen=True, slots=True)
class Samples:
    """All chains of a training.

    Attributes:
        records: Chains that are learned.
        places: Index of a record for each time it is learned in an epoch.
        rejects: Chains that are not.
        read: How many chains the files hold, unusable ones included.
        labels: How many steps are wrong and right.
    """

    records: Sequence[Record]
    places: Sequence[int]
    rejects: Sequence[Reject]
    read: int
    labels: tuple[float, float]

    @property
    def counts(self) -> str:
        """What became of the records, in one line."""
        wrong, right = self.labels
        used = self.read - len(self.rejects)
        return (
            f"chains: {self.read} read, {used} used, {len(self.rejects)} set aside; {len(self.places)} to an epoch, "
            f"steps: {right:,.0f} right, {wrong:,.0f} wrong"
        )


def samples_of(recipe: PrmRecipe, writer: Writer, longest: int | None) -> Samples:
    """Reads the files of a recipe and measures all chains.

    Raises:
        AtomThinkError: A file cannot be read, or nothing can be used.
    """
    records: list[Record] = []
    places: list[int] = []
    rejects: list[Reject] = []
    read = 0
    form = format_of(recipe.format)
    for data in recipe.data:
        found = read_records(data.file, Chain)
        rejects += found.rejects
        read += found.read
        first = len(records)
        known = [Record(chain, found.folder, form) for chain in found.records]
        results = measured(known, partial(_measure, recipe, writer, longest), recipe.dataloader_num_workers)
        for record, fault in zip(known, results, strict=True):
            if fault is None:
                records.append(record)
            else:
                where = f"{data.file.name}, id {record.chain.id!r}"
                rejects.append(Reject(where, str(fault), record.chain.model_dump(exclude_none=True)))
        places += [at for at, _ in drawn([(at, None) for at in range(first, len(records))], data, recipe.seed)]
    if not records:
        raise AtomThinkError(
            f"`data` has nothing that can be learned: {read} chains, all set aside{first_reason(rejects)}"
        )
    return Samples(records, places, rejects, read, _balance(records, places))


def rows_of(record: Record, recipe: PrmRecipe, writer: Writer) -> list[Row]:
    """Returns the rows of one chain, images read."""
    question = record.question(recipe.max_pixels) if recipe.images else _text(record)
    return rows(_labelled(record.chain, question), writer.layout, writer.tag_id)


def _measure(recipe: PrmRecipe, writer: Writer, longest: int | None, record: Record) -> None:
    """Refuses a chain that has no labels, is laid out wrongly, or is too long."""
    if record.chain.labels is None or all(label is None for label in record.chain.labels):
        raise QuestionError("no step has a label: `atomthink label` makes some")
    question = record.question(recipe.max_pixels, empty=True) if recipe.images else _text(record)
    with writer.encoder.measuring() if writer.encoder is not None else nullcontext():
        found = laid_out(_labelled(record.chain, question), writer.layout, writer.tag_id)
    fits(max(laid.encoding.length for laid in found), longest)


def _labelled(chain: Chain, question: Question) -> list[Labelled]:
    root = api.Path(question)
    nodes = list(accumulate(chain.steps, lambda at, step: at.extend(Step(step)), initial=root))[1:]
    labels = chain.labels or ()
    corrections = chain.corrections or (None,) * len(nodes)
    found = zip(nodes, labels, corrections, strict=True)
    return [Labelled(node, label, correction) for node, label, correction in found if label is not None]


def _text(record: Record) -> Question:
    return api.Question(record.chain.id, (api.Message("user", (record.chain.question,)),))


def _balance(records: Sequence[Record], places: Sequence[int]) -> tuple[float, float]:
    wrong = right = 0.0
    for at, times in Counter(places).items():
        for label in records[at].chain.labels or ():
            if label is not None:
                wrong += times * (1 - label)
                right += times * label
    return wrong, right
