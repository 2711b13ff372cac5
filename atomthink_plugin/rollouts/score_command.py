"""The command `atomthink score`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from atomthink_plugin.api import Aggregate, AtomThinkError
from atomthink_plugin.exits import no_exit
from atomthink_plugin.json_rows import Reject
from atomthink_plugin.report.output_files import writable, write_json
from atomthink_plugin.report.scaling_curve import sizes_up_to
from atomthink_plugin.rollouts.candidate_scores import CandidateScores, count_alike, score_candidates, scores_in_file
from atomthink_plugin.rollouts.candidate_verdicts import JudgedSets, judge_candidates
from atomthink_plugin.rollouts.prm_option import NamedPrm, read_prms
from atomthink_plugin.rollouts.rollout_file import read_rollouts
from atomthink_plugin.rollouts.rollout_rows import KEPT_SCORES
from atomthink_plugin.rollouts.rollout_set import RolloutSet
from atomthink_plugin.rollouts.run_export import run_folder, write_run
from atomthink_plugin.rollouts.score_file import CandidateScoreFile
from atomthink_plugin.rollouts.selection import CandidatePool
from atomthink_plugin.rollouts.selection_curve import candidate_values, selection_curve
from atomthink_plugin.rollouts.selection_report import (
    ScoredRollouts,
    check_curve,
    selection_grids,
    selection_json,
    selection_notes,
    write_curve,
)
from atomthink_plugin.rollouts.step_split import DEFAULT_SPLIT, with_steps
from atomthink_plugin.scorers.prm_profile import PublishedModel, Split
from atomthink_plugin.searches.parts.aggregates import AGGREGATES
from atomthink_plugin.tables import print_grid, print_note

log = logging.getLogger(__name__)

DEFAULT_AGGREGATES: Final = "mean,min,last"


@dataclass(frozen=True, slots=True)
class _Scored:
    """The candidates with the steps that one PRM scored.

    Attributes:
        sets: The questions. All candidates have steps.
        scores: The scores of their steps.
        aggregate: The aggregate of the PRM's authors, `mean` if it is not known.
        notes: What a reader of the numbers has to know.
    """

    sets: Sequence[RolloutSet]
    scores: CandidateScores
    aggregate: Aggregate = "mean"
    notes: Sequence[str] = ()


def score_rollouts(
    sources: Sequence[str],
    prms: Sequence[str] = (),
    *,
    n: str = "",
    aggregate: str = "",
    format: str | None = None,
    task: str | None = None,
    split: Split | None = None,
    images: Path | None = None,
    limit: int | None = None,
    scores: Path | None = None,
    json: Path | None = None,
    curve: Path | None = None,
    run: Path | None = None,
) -> ScoredRollouts:
    """Scores candidates and prints what choosing among them reaches. The arguments are those of `atomthink score`.

    Raises:
        AtomThinkError: An argument, a PRM or a file cannot be used, or the data contradicts itself.
    """
    named = read_prms(prms)
    aggregates = read_aggregates(aggregate)
    at = read_sizes(n)
    writable("--json", json)
    writable("--curve", curve)
    check_curve(curve)
    folders = {prm.name: run_folder(run, prm.name) for prm in named} if run is not None else {}
    if run is not None and not named:
        raise AtomThinkError(f"`--run {run}` shows what a PRM chooses. Name one with `--prm`")

    data = read_rollouts(sources, format=format, images=images, limit=limit)
    judged = judge_candidates(data.sets, task)
    sets = _judged(judged)
    most = max(len(one.candidates) for one in sets)
    if at and at[0] > most:
        raise AtomThinkError(f"`--n {n}`: no question has that many candidates; the most are {most}")

    needed = any(prm.plan is not None for prm in named)
    file = scores or (_beside(sources[0]) if needed else None)
    for prm in named:
        if prm.plan is None:
            _scores(sets, prm, file, split)  # a wrong name is found before others are scored
    found = [_scores(sets, prm, file, split) for prm in named]
    pools = _pools(sets, [one.scores for one in found], aggregates)
    missing = [f"N={size}: no question has that many candidates" for size in at if size > most]
    report = ScoredRollouts(
        source=", ".join(Path(source).name or source for source in sources),
        format=data.format,
        pools=pools,
        scores=[one.scores for one in found],
        points=selection_curve(pools, at or sizes_up_to(most)),
        judged_by=judged.by,
        unused=_reasons((*data.rejects, *judged.rejects)),
        cut=data.cut,
        notes=[*data.notes, *missing, *(note for one in found for note in one.notes)],
    )
    _print(report)
    if json is not None:
        write_json("--json", json, selection_json(report))
    if curve is not None:
        write_curve(curve, report)
    for one in found if run is not None else ():
        folder, shown = folders[one.scores.prm], aggregates[0] if aggregate else one.aggregate
        write_run(folder, one.sets, one.scores, shown, ", ".join(judged.by))
        print(f"run: {folder} (atomthink view {folder})")
    return report


def read_aggregates(typed: str) -> list[Aggregate]:
    """Reads `--aggregate`.

    Raises:
        AtomThinkError: It names an unknown aggregate or none.
    """
    names = list(dict.fromkeys(name.strip() for name in (typed or DEFAULT_AGGREGATES).split(",")))
    if unknown := [name for name in names if name not in AGGREGATES]:
        raise AtomThinkError(f"`--aggregate {typed}`: {unknown[0]!r} is unknown; valid: {', '.join(AGGREGATES)}")
    return [aggregate for name in names for aggregate in AGGREGATES if aggregate == name]


def read_sizes(typed: str) -> list[int]:
    """Reads `--n`, ascending; empty if it is not given.

    Raises:
        AtomThinkError: It is not a list of whole numbers from 1.
    """
    if not typed:
        return []
    parts = [part.strip() for part in typed.split(",")]
    if bad := [part for part in parts if not part.isdecimal() or int(part) < 1]:
        raise AtomThinkError(f"`--n {typed}`: {bad[0]!r} is not a whole number from 1. Write `--n 1,2,4,8`")
    return sorted(set(map(int, parts)))


def _judged(judged: JudgedSets) -> list[RolloutSet]:
    """Returns the questions with candidates, which all have verdicts.

    Raises:
        AtomThinkError: There are none.
    """
    sets = [one for one in judged.sets if one.candidates]
    if not sets:
        reasons = "; ".join(_reasons(judged.rejects)) or "there are no candidates"
        raise AtomThinkError(f"no question has candidates with verdicts: {reasons}")
    return sets


def _beside(source: str) -> Path:
    """Returns where scores are kept by default: beside the first file, as FILE.scores.jsonl."""
    path = Path(source).expanduser()
    if not path.exists():
        raise AtomThinkError(f"`{source}` is no file of this machine: name a file for its scores with `--scores FILE`")
    return path.with_name(path.resolve().name + KEPT_SCORES)


def _scores(sets: Sequence[RolloutSet], prm: NamedPrm, file: Path | None, split: Split | None) -> _Scored:
    """Returns the scores by one PRM, which is in memory only during this call."""
    if prm.plan is None or file is None:
        whole = [with_steps(one, split or DEFAULT_SPLIT) for one in sets]
        return _Scored(whole, scores_in_file(whole, prm.in_file, prm.name))
    with closing(CandidateScoreFile(file)) as kept:
        with no_exit(f"the scorer {prm.plan.kind!r}"):
            scorer = prm.plan.make()
        published: PublishedModel | None = getattr(scorer, "profile", None)
        cut = split or (published.split if published is not None else DEFAULT_SPLIT)
        whole = [with_steps(one, cut) for one in sets]
        identity = {**prm.plan.identity, "weights": scorer.identity}
        found = score_candidates(whole, scorer, prm.name, identity, kept)
    print(f"scores: {file}")
    if found.speed is not None:
        print(f"speed of {prm.name}: " + "\n  ".join(found.speed.lines()))
    notes = [] if all(one.steps is not None for asked in sets for one in asked.candidates) else [_cut(prm.name, cut)]
    if published is None or "aggregate" not in published.model_fields_set:
        return _Scored(whole, found, notes=notes)
    notes.append(f"{prm.name}: its authors use the aggregate {published.aggregate}")
    return _Scored(whole, found, published.aggregate, notes)


def _cut(prm: str, split: Split) -> str:
    return f"{prm}: texts without steps are split with `--split {split}`"


def _pools(
    sets: Sequence[RolloutSet], scores: Sequence[CandidateScores], aggregates: Sequence[Aggregate]
) -> list[CandidatePool]:
    values = [candidate_values(one, aggregates) for one in scores]
    return [
        CandidatePool(
            question=asked.id,
            answers=tuple(one.stated_answer() for one in asked.candidates),
            correct=tuple(bool(one.correct) for one in asked.candidates),
            values={by: own for each in values for by, own in each[at].items()},
        )
        for at, asked in enumerate(sets)
    ]


def _reasons(rejects: Iterable[Reject]) -> dict[str, int]:
    return dict(count_alike(reject.reason for reject in rejects).most_common())


def _print(report: ScoredRollouts) -> None:
    for grid in selection_grids(report):
        print_grid(grid)
    for note in selection_notes(report):
        print_note(note)
