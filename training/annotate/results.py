"""The output of a run: chains, rejects with stage and reason, and a summary with counts that add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.report.output_files import write_json
from atomthink_plugin.training.annotate.filters import STAGES, AttemptError, Stage
from atomthink_plugin.training.annotate.ledger import Cost
from atomthink_plugin.training.records import write_records


@dataclass(frozen=True, slots=True)
class StageReject:
    """A question, or one step of a chain, without a result.

    Attributes:
        where: Its id, or the place of its record.
        stage: The stage that it did not pass.
        reason: A short reason that many share.
        detail: Details of this one.
        record: The question as it was read.
        faults: The faults of all attempts.
    """

    where: str
    stage: Stage
    reason: str
    detail: str = ""
    record: Any = field(default_factory=dict)
    faults: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def of(cls, where: str, error: AttemptError, record: Any) -> StageReject:
        """Returns the reject of a question that failed like this."""
        return cls(where, error.stage, error.reason, error.detail, record)


@dataclass(frozen=True, slots=True)
class Annotation:
    """The result of a run.

    Attributes:
        asked: Number of questions that were read, or of steps to corrupt.
        good: Number of those with a result; they and the rejects are all that were asked.
        chains: Records of the chains, in the order of the questions.
        rejects: The others.
    """

    asked: int
    good: int
    chains: Sequence[Mapping[str, Any]]
    rejects: Sequence[StageReject]


def write_results(
    folder: Path, annotation: Annotation, header: Mapping[str, Any], spent: Cost | None
) -> dict[str, Any]:
    """Writes `chains.jsonl`, `rejects.jsonl` and `summary.json`, and returns the summary.

    Args:
        folder: The output folder.
        annotation: The results.
        header: The first fields of the summary.
        spent: Cost of this and all earlier runs; None if nothing is paid.

    Raises:
        AtomThinkError: A file cannot be written, or the counts do not add up.
    """
    asked, good, rejected = annotation.asked, annotation.good, len(annotation.rejects)
    if asked != good + rejected:
        raise AtomThinkError(f"{asked} questions are not {good} results and {rejected} rejects. Please report this")
    write_records(folder / "chains.jsonl", annotation.chains)
    write_records(folder / "rejects.jsonl", map(asdict, annotation.rejects))
    counts = {stage: Counter(one.reason for one in annotation.rejects if one.stage == stage) for stage in STAGES}
    left: dict[str, int] = {}
    for stage in STAGES:
        asked -= counts[stage].total()
        left[stage] = asked
    summary = {
        **header,
        "asked": annotation.asked,
        "good": good,
        "rejected": rejected,
        "rejects": {stage: dict(reasons) for stage, reasons in counts.items() if reasons},
        "left": left,
        "chains": len(annotation.chains),
        "steps": sum(len(chain["steps"]) for chain in annotation.chains),
        **({"spent": {**asdict(spent), "tokens": spent.tokens}} if spent else {}),
    }
    write_json("--out", folder / "summary.json", summary)
    return summary
