"""`atomthink prm eval`: how well a PRM does on a labelled set."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from atomthink_plugin.api import AtomThinkError, Scorer
from atomthink_plugin.config import ScorerPlan, scorer_plan
from atomthink_plugin.tables import print_grid
from atomthink_plugin.training.evaluate.labelled import LabelledSet
from atomthink_plugin.training.evaluate.reading import read_set
from atomthink_plugin.training.evaluate.report import Measures, measure, tables
from atomthink_plugin.training.evaluate.score_file import ScoreFile
from atomthink_plugin.training.evaluate.scoring import Scores, score_chains
from atomthink_plugin.training.evaluate.threshold import best_threshold, refuse_shared
from atomthink_plugin.training.records import Reject, count_reasons, write_rejects

log = logging.getLogger(__name__)

_REASONS: Final = 10  # shown in the terminal


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for on the command line.

    Attributes:
        source: The set.
        format: Its format; None to tell it from its fields.
        limit: Only its first records.
        threshold: Below it a step counts as taken for wrong; or the source of other data on which to choose it.
        scores: Where scores are kept.
        rejects: Where records are written that cannot be used.
        json: Where the numbers are written.
    """

    source: str
    format: str | None
    limit: int | None
    threshold: float | str
    scores: Path | None
    rejects: Path | None
    json: Path | None


def evaluate(wanted: Wanted, typed: Mapping[str, Any]) -> None:
    """Reads, scores, measures, prints.

    Args:
        wanted: What is asked for.
        typed: `prm`, `scorer` and the scorer's arguments, as a run takes them.

    Raises:
        AtomThinkError: Something in it cannot be used; named before anything is scored.
    """
    plan = scorer_plan(typed)
    data = read_set(wanted.source, wanted.format, wanted.limit)
    other = read_set(wanted.threshold) if isinstance(wanted.threshold, str) else None
    _set_aside(wanted.rejects, [*data.rejects, *(other.rejects if other is not None else ())])
    if all(label is None for item in data.chains for label in item.labels):
        raise AtomThinkError(f"no step of {wanted.source} has a label: there is nothing to measure")
    if other is not None:
        refuse_shared(data, other)
    scorer = plan.make()
    with score_file(wanted.scores, plan, scorer) as file:
        threshold = _threshold(wanted.threshold, other, scorer, file)
        scores = score_chains(data.chains, scorer, file, wanted.source)
    measures = measure(scores.chains, threshold, data.format == "prmbench")
    for grid in tables(measures, f"{wanted.source}, threshold {threshold:.4g}"):
        print_grid(grid)
    if wanted.json is not None:
        chosen = {"value": threshold, "chosen_on": wanted.threshold if other is not None else None}
        found = {"set": _counts(wanted, data, scores), "prm": _told(plan, scorer), "threshold": chosen}
        _write(wanted.json, found, measures)


def _set_aside(file: Path | None, rejects: Sequence[Reject]) -> None:
    """Writes what cannot be used, or says why it cannot."""
    if file is not None:
        write_rejects(file, rejects)
        return
    reasons = count_reasons(rejects)
    for reason in list(reasons)[:_REASONS]:
        log.warning("%8d  %s", reasons[reason], reason)
    if len(reasons) > _REASONS:
        log.warning("%d more reasons: name a file for them with --rejects", len(reasons) - _REASONS)


@contextmanager
def score_file(file: Path | None, plan: ScorerPlan, scorer: Scorer) -> Iterator[ScoreFile | None]:
    """Opens the file that keeps a scorer's scores, if one is named."""
    kept = None if file is None else ScoreFile(file, _told(plan, scorer))
    try:
        yield kept
    finally:
        if kept is not None:
            kept.close()


def _told(plan: ScorerPlan, scorer: Scorer) -> dict[str, Any]:
    return {**plan.identity, "weights": scorer.identity}


def _threshold(threshold: float | str, other: LabelledSet | None, scorer: Scorer, file: ScoreFile | None) -> float:
    if other is None:
        return float(threshold)
    best = best_threshold(score_chains(other.chains, scorer, file, str(threshold)).chains)
    log.info("threshold %.4g has the highest first-error F1 on %s", best, threshold)
    return best


def _counts(wanted: Wanted, data: LabelledSet, scores: Scores) -> dict[str, Any]:
    """What became of every record, chain and step."""
    labels = Counter(label for chain in scores.chains for label in chain.item.labels)
    return {
        "source": wanted.source,
        "format": data.format,
        "records": data.records,
        "used": data.records - len(data.rejects),
        "rejected": len(data.rejects),
        "rejects": [{"where": reject.where, "reason": reject.reason} for reject in data.rejects],
        "chains": len(data.chains),
        "scored": len(scores.chains),
        "failed": scores.failed,
        "steps": {"right": labels[True], "wrong": labels[False], "unlabelled": labels[None]},
    }


def _write(file: Path, found: Mapping[str, Any], measures: Measures) -> None:
    try:
        file.write_text(json.dumps({**found, **asdict(measures)}, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise AtomThinkError(f"`--json {file}` cannot be written: {error.strerror}") from None
