"""What an annotation leaves: chains, rejects with stage and reason, and counts that add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.report.output_files import write_json
from atomthink_plugin.training.annotate.filters import STAGES, Stage
from atomthink_plugin.training.annotate.meter import Cost
from atomthink_plugin.training.records import Chain, write_records


@dataclass(frozen=True, slots=True)
class Lost:
    """A question, or one step of it, of which nothing came.

    Attributes:
        where: Its id, or where its record stands.
        stage: What it did not pass.
        reason: In words that many share.
        detail: What is special to it.
        record: The question as it came.
        faults: Those of all tries.
    """

    where: str
    stage: Stage
    reason: str
    detail: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)
    faults: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Made:
    """Everything an annotation comes to.

    Attributes:
        asked: What went in: questions, or steps for wrong versions of them.
        good: How many of them gave something.
        chains: What is written, in the order of the questions.
        about: Fields that every chain gets beside its own, by chain's id.
        lost: The others; `good` and they together are all that went in.
    """

    asked: int
    good: int
    chains: Sequence[Chain]
    about: Mapping[str, Mapping[str, Any]]
    lost: Sequence[Lost]


def write(folder: Path, made: Made, told: Mapping[str, Any], cost: Cost | None) -> dict[str, Any]:
    """Writes `chains.jsonl`, `rejects.jsonl` and `summary.json`, and returns the summary.

    Args:
        folder: Where.
        made: What there is.
        told: What else the summary says first: the way, the teacher, other counts.
        cost: What was spent by all runs, None where nothing is.

    Raises:
        AtomThinkError: A file cannot be written, or the counts do not add up.
    """
    if made.asked != made.good + len(made.lost):
        raise AtomThinkError(
            f"{made.asked} went in, {made.good} came out and {len(made.lost)} were lost: please report"
        )
    chains = ({**chain.model_dump(exclude_none=True), **made.about.get(chain.id, {})} for chain in made.chains)
    write_records(folder / "chains.jsonl", chains)
    write_records(folder / "rejects.jsonl", (asdict(one) for one in made.lost))
    summary = {
        **told,
        "asked": made.asked,
        "good": made.good,
        "rejected": len(made.lost),
        "rejects": _by_stage(made.lost),
        "left": _left(made),
        "chains": len(made.chains),
        "steps": sum(len(chain.steps) for chain in made.chains),
        **({"spent": {**asdict(cost), "tokens": cost.tokens}} if cost else {}),
    }
    write_json("--out", folder / "summary.json", summary)
    return summary


def _by_stage(lost: Iterable[Lost]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {stage: Counter() for stage in STAGES}
    for one in lost:
        counts[one.stage][one.reason] += 1
    return {stage: dict(reasons) for stage, reasons in counts.items() if reasons}


def _left(made: Made) -> dict[str, int]:
    """Returns how many are left behind each stage."""
    counts = Counter(one.stage for one in made.lost)
    left: dict[str, int] = {}
    at = made.asked
    for stage in STAGES:
        at -= counts[stage]
        left[stage] = at
    return left
