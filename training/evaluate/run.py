"""The commands `atomthink prm eval` and `atomthink prm mine`."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from atomthink_plugin.api import AtomThinkError, Scorer
from atomthink_plugin.config import scorer_plan
from atomthink_plugin.json_rows import Reject
from atomthink_plugin.report.output_files import write_json
from atomthink_plugin.scorer_plans import ScorerPlan
from atomthink_plugin.tables import print_grid
from atomthink_plugin.training.evaluate.metrics import measure
from atomthink_plugin.training.evaluate.readers import LabelledSet, read_set
from atomthink_plugin.training.evaluate.report import tables
from atomthink_plugin.training.evaluate.scores import ScoredChain, ScoredSet, ScoreFile, score_chains
from atomthink_plugin.training.records import count_reasons, relocated, sibling_file, write_records, write_rejects

log = logging.getLogger(__name__)

DEFAULT_THRESHOLD: Final = 0.5
MISJUDGED: Final = 0.5
"""A step is misjudged if its score is further than this from its label."""

_SHOWN_REASONS: Final = 10
_ABOVE_ALL: Final = float(np.nextafter(1.0, 2.0))  # the least threshold that a score of 1 is below


def evaluate_prm(
    source: str,
    scorer: Mapping[str, Any],
    *,
    format: str | None = None,
    limit: int | None = None,
    threshold: float = DEFAULT_THRESHOLD,
    threshold_from: str | None = None,
    scores: Path | None = None,
    rejects: Path | None = None,
    json: Path | None = None,
) -> None:
    """Scores a labelled set and prints how well the scores separate right steps from wrong ones.

    The arguments are those of `atomthink prm eval`; `scorer` has those of the scorer, as a run takes them.

    Raises:
        AtomThinkError: An argument, the PRM or a set cannot be used.
    """
    plan = scorer_plan(scorer)
    data = read_set(source, format, limit)
    other = None if threshold_from is None else read_set(threshold_from)
    _report_rejects(rejects, [*data.rejects, *(other.rejects if other else ())])
    if all(label is None for item in data.chains for label in item.labels):
        raise AtomThinkError(f"no step of {source} has a label, so there is nothing to compare scores with")
    shared = {item.key() for item in data.chains} & {item.key() for item in other.chains} if other else ()
    if shared:
        raise AtomThinkError(
            f"`--threshold-from`: {len(shared)} of its chains are also in the set that is evaluated. Choose the "
            "threshold on other chains"
        )
    with _loaded(plan, scores) as (prm, identity, file):
        if other:
            threshold = best_threshold(score_chains(other.chains, prm, file, str(threshold_from)).chains)
            log.info("threshold %.4g has the highest first-error F1 on %s", threshold, threshold_from)
        scored = score_chains(data.chains, prm, file, source)
    log.info("computing metrics and their intervals")
    metrics = measure(scored.chains, threshold, data.format == "prmbench")
    for grid in tables(metrics, f"{source}, threshold {threshold:.4g}"):
        print_grid(grid)
    if json is not None:
        chosen = {"value": threshold, "chosen_on": threshold_from}
        counts = {"source": source, **_counts(data, scored)}
        write_json("--json", json, {"set": counts, "prm": identity, "threshold": chosen, **asdict(metrics)})
    _print_files(metrics=json, scores=scores, rejects=rejects)


def mine(chains: Path, out: Path, scorer: Mapping[str, Any], scores: Path | None = None) -> int:
    """Writes the chains with a step that a PRM misjudges, the worst first, and returns their number.

    The arguments are those of `atomthink prm mine`; `scorer` has those of the scorer, as a run takes them.

    Raises:
        AtomThinkError: The chains or the PRM cannot be used.
    """
    plan = scorer_plan(scorer)
    data = read_set(str(chains), "chains")
    with _loaded(plan, scores) as (prm, _, file):
        scored = score_chains(data.chains, prm, file, str(chains))
    errors = [(largest_error(chain), chain.item.chain) for chain in scored.chains]
    hard = sorted((pair for pair in errors if pair[0] > MISJUDGED), key=lambda pair: -pair[0])
    failed = [Reject(f"{chains.name}, id {name!r}", reason, None) for name, reason in scored.failed.items()]
    rejects = sibling_file(out, "rejects.jsonl")
    rejected = write_rejects(rejects, [*data.rejects, *failed])
    written = write_records(out, (relocated(chain, chains.parent, out) for _, chain in hard))
    print(f"{data.records} chains read, {len(scored.chains)} scored, {rejected} rejected; {written} are misjudged")
    _print_files(chains=out, rejects=rejects, scores=scores)
    if written:
        print(f"next: atomthink train prm RECIPE.yaml --data {out}")
    return written


def largest_error(chain: ScoredChain) -> float:
    """Returns the largest difference of a step's score and label, 0 if no step has a label."""
    pairs = zip(chain.scores, chain.item.chain.labels or (), strict=True)
    return max((abs(score - label) for score, label in pairs if label is not None), default=0.0)


def best_threshold(chains: Sequence[ScoredChain]) -> float:
    """Returns the threshold with the highest first-error F1; of several, the nearest to 0.5.

    The first wrong step is found by thresholds above its score and up to the lowest score of an earlier step. A chain
    without a wrong step is recognised by thresholds up to its lowest score. F1 is constant between two neighbours of
    these numbers, the upper one included.

    Raises:
        AtomThinkError: The chains have no first-error F1.
    """
    known = [chain for chain in chains if chain.item.first_error_known]
    wrong_at = [(chain.scores, chain.item.first_error) for chain in known if chain.item.first_error is not None]
    ranges = np.array([(scores[at], min(scores[:at], default=_ABOVE_ALL)) for scores, at in wrong_at]).reshape(-1, 2)
    lowest = np.sort([min(chain.scores) for chain in known if chain.item.first_error is None])
    if not len(ranges) or not len(lowest):
        raise AtomThinkError(
            f"`--threshold-from`: a threshold needs chains with and without a wrong step, and that set has "
            f"{len(ranges)} and {len(lowest)} of them"
        )
    possible = ranges[ranges[:, 0] < ranges[:, 1]]
    ends = np.unique(np.concatenate([possible.ravel(), lowest, [_ABOVE_ALL]]))
    above, upto = np.sort(possible[:, 0]), np.sort(possible[:, 1])
    wrong = (np.searchsorted(above, ends) - np.searchsorted(upto, ends)) / len(ranges)
    right = 1 - np.searchsorted(lowest, ends) / len(lowest)
    f1 = 2 * wrong * right / np.where(wrong + right == 0, 1, wrong + right)
    starts = np.nextafter(np.concatenate([[0.0], ends[:-1]]), 2.0)
    nearest = np.clip(DEFAULT_THRESHOLD, starts, ends)[f1 >= f1.max() - 1e-12]
    return float(nearest[np.argmin(np.abs(nearest - DEFAULT_THRESHOLD))])


@contextmanager
def _loaded(plan: ScorerPlan, file: Path | None) -> Iterator[tuple[Scorer, dict[str, Any], ScoreFile | None]]:
    """Loads a scorer. Yields it, what determines its scores, and the file that keeps them."""
    scorer = plan.make()
    identity = {**plan.identity, "weights": scorer.identity}
    if file is None:
        yield scorer, identity, None
    else:
        with closing(ScoreFile(file, identity)) as scores:
            yield scorer, identity, scores


def _report_rejects(file: Path | None, rejects: Sequence[Reject]) -> None:
    if file is not None:
        write_rejects(file, rejects)
        return
    reasons = count_reasons(rejects)
    for reason in list(reasons)[:_SHOWN_REASONS]:
        log.warning("%8d  %s", reasons[reason], reason)
    if len(reasons) > _SHOWN_REASONS:
        log.warning("%d more reasons; write all rejects to a file with `--rejects`", len(reasons) - _SHOWN_REASONS)


def _counts(data: LabelledSet, scored: ScoredSet) -> dict[str, Any]:
    labels = Counter(label for chain in scored.chains for label in chain.item.labels)
    return {
        "format": data.format,
        "records": data.records,
        "used": data.records - len(data.rejects),
        "rejected": len(data.rejects),
        "rejects": [{"where": reject.where, "reason": reject.reason} for reject in data.rejects],
        "chains": len(data.chains),
        "scored": len(scored.chains),
        "failed": scored.failed,
        "steps": {"right": labels[True], "wrong": labels[False], "unlabelled": labels[None]},
    }


def _print_files(**files: Path | None) -> None:
    for name, file in files.items():
        if file is not None:
            print(f"{name}: {file}")
