"""The commands `atomthink prm eval` and `atomthink prm mine`."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from atomthink_plugin.api import AtomThinkError, Scorer
from atomthink_plugin.config import scorer_plan
from atomthink_plugin.json_rows import Reject
from atomthink_plugin.report.output_files import write_json
from atomthink_plugin.runtime.solution_scores import ScoreFile
from atomthink_plugin.scorer_plans import ScorerPlan
from atomthink_plugin.scorers.published_threshold import published_threshold
from atomthink_plugin.step_metrics.best_threshold import Goal, best_threshold
from atomthink_plugin.step_metrics.judged_steps import Threshold
from atomthink_plugin.step_metrics.measure import measure
from atomthink_plugin.tables import print_grid
from atomthink_plugin.training.evaluate.readers import LabelledSet, read_set
from atomthink_plugin.training.evaluate.report import tables
from atomthink_plugin.training.evaluate.scores import ScoredChain, ScoredSet, score_chains
from atomthink_plugin.training.records import count_reasons, relocated, sibling_file, write_records, write_rejects

log = logging.getLogger(__name__)

FIXED: Final = "fixed"
"""Where a threshold was chosen that does not depend on labels."""

MISJUDGED: Final = 0.5
"""A step is misjudged if its score is further than this from its label."""

_SHOWN_REASONS: Final = 10


def evaluate_prm(
    source: str,
    scorer: Mapping[str, Any],
    *,
    format: str | None = None,
    limit: int | None = None,
    threshold: float | None = None,
    threshold_from: str | None = None,
    threshold_by: Goal = "first_error_f1",
    strict: bool = False,
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
    if all(label is None for item in data.chains for label in item.truth.labels):
        raise AtomThinkError(f"no step of {source} has a label, so there is nothing to compare scores with")
    shared = {item.given.key() for item in data.chains} & {item.given.key() for item in other.chains} if other else ()
    if shared:
        raise AtomThinkError(
            f"`--threshold-from`: {len(shared)} of its chains are also in the set that is evaluated. Choose the "
            "threshold on other chains"
        )
    with _loaded(plan, scores) as (prm, identity, file):
        published = published_threshold(prm)
        cut = Threshold(published.value if threshold is None else threshold, strict or published.strict)
        if other:
            elsewhere = score_chains(other.chains, prm, file, str(threshold_from))
            cut = Threshold(_chosen_on(str(threshold_from), elsewhere.chains, threshold_by), strict)
        scored = score_chains(data.chains, prm, file, source)
    log.info("computing metrics and their intervals")
    metrics = measure(scored.judged(data.chains, cut), data.format == "prmbench")
    chosen_on = threshold_from or FIXED
    for grid in tables(
        metrics, f"{source}: right if score {'>' if cut.strict else '>='} {cut.value:.4g} ({chosen_on})"
    ):
        print_grid(grid)
    if json is not None:
        chosen = {"value": cut.value, "strict": cut.strict, "chosen_on": chosen_on}
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


def _chosen_on(source: str, chains: Sequence[ScoredChain], goal: Goal) -> float:
    """Returns the threshold with the highest F1 on another set.

    Raises:
        AtomThinkError: That set has no such F1.
    """
    judged = [chain.judged(Threshold()) for chain in chains]
    best = best_threshold(judged, goal)
    if best is None:
        wrong = sum(one.truth.first_error is not None for one in judged)
        raise AtomThinkError(
            f"`--threshold-from {source}`: a threshold needs right and wrong steps, and chains with and without a "
            f"wrong step. That set has {wrong} and {len(judged) - wrong} such chains"
        )
    log.info("threshold %.4g has the highest %s on %s: %.4f", best.threshold, goal, source, best.f1)
    return best.threshold


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
    labels = Counter(label for chain in scored.chains for label in chain.item.truth.labels)
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
