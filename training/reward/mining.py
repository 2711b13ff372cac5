"""Hard examples: labelled chains that a PRM misjudges, for its next round of training.

Sampled from the policy, its own wrong steps that the PRM scores high are what a search would fall for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.scorers.detect import SECTION, prm_settings
from atomthink_plugin.source import load_config
from atomthink_plugin.training.chains import Chain, write_chains, write_rejects
from atomthink_plugin.training.fine_tuning.collating import inputs_of
from atomthink_plugin.training.fine_tuning.config import Data
from atomthink_plugin.training.fine_tuning.records import Record
from atomthink_plugin.training.reward.checkpoint import Trainable, load
from atomthink_plugin.training.reward.config import PrmRecipe
from atomthink_plugin.training.reward.loss import Targets, judgements
from atomthink_plugin.training.reward.records import rows_of, samples_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Mined:
    """A misjudged chain.

    Attributes:
        record: The chain.
        fault: How far the worst judgement is from its label, in [0, 1].
    """

    record: Record
    fault: float


def mine(chains: Path, prm: str, out: Path, batch_size: int = 32, threshold: float = 0.5) -> int:
    """Writes the chains that a PRM misjudges, the worst first, and returns how many.

    Args:
        chains: Labelled chains; their images stay where they are.
        prm: A PRM trained by `atomthink train prm`.
        out: The file, in the folder of `chains`; what cannot be judged goes to OUT.rejects.jsonl.
        batch_size: Chains in a forward pass.
        threshold: A step is misjudged if its score is this far from its label.

    Raises:
        AtomThinkError: The chains or the PRM cannot be used, or `out` is in another folder.
    """
    if out.absolute().parent != chains.absolute().parent:
        raise AtomThinkError(f"`--out {out}`: has to be in the folder of {chains}, whose images it goes on naming")
    settings = prm_settings(load_config(prm, argument="prm"), prm)
    if settings is None or settings.kind == "likelihood":
        raise AtomThinkError(f"prm={prm!r} has no {SECTION} of kind token or head: name one of `atomthink train prm`")
    told = settings.model_dump(exclude={"scale", "bias"}, exclude_none=True)
    data = (Data(file=chains),)
    recipe = PrmRecipe(model=prm, data=data, out=out.parent, batch_size=batch_size, precision="fp32", **told)
    model = load(recipe)
    samples = samples_of(recipe, model, model.checkpoint.context)
    write_rejects(out.with_name(f"{out.stem}.rejects.jsonl"), samples.rejects)
    mined = [m for m in _judged(samples.records, recipe, model) if m.fault > threshold]
    mined.sort(key=lambda found: -found.fault)
    log.info("%d of %d chains are misjudged, %d set aside", len(mined), len(samples.records), len(samples.rejects))
    return write_chains(out, (found.record.chain for found in mined))


@torch.inference_mode()
def scores(records: Sequence[Record], recipe: PrmRecipe, model: Trainable) -> list[list[float]]:
    """Returns the scores of each chain's labelled steps, all steps of a chain in one forward pass where that can be."""
    found = [rows_of(record, recipe, model) for record in records]
    flat = [row for rows in found for row in rows]
    batch = inputs_of([row.encoding for row in flat], model.checkpoint.pad_id)
    targets = Targets.of(flat)
    logits = model.checkpoint.model(**batch).logits
    values = iter(judgements(logits, targets.steps, model.classes).softmax(-1)[:, 1].tolist())
    return [[next(values) for row in rows for _ in row.steps] for rows in found]


def _judged(records: Sequence[Record], recipe: PrmRecipe, model: Trainable) -> Iterator[Mined]:
    model.checkpoint.model.train(False)
    order = sorted(records, key=lambda record: sum(map(len, record.chain.steps)))
    starts = range(0, len(order), recipe.batch_size)
    for start in track(starts, "judging", console=Console(stderr=True), transient=True):
        some = order[start : start + recipe.batch_size]
        for record, values in zip(some, scores(some, recipe, model), strict=True):
            yield Mined(record, _fault(record.chain, values))


def _fault(chain: Chain, values: Sequence[float]) -> float:
    labels = [label for label in chain.labels or () if label is not None]
    return max(abs(value - label) for value, label in zip(values, labels, strict=True))
