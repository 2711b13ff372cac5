"""The output of a run: chains, rejects with stage and reason, and a summary with counts that add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.redaction import printable
from atomthink_plugin.report.output_files import write_json
from atomthink_plugin.training.annotate.filters import STAGES, Stage
from atomthink_plugin.training.annotate.ledger import Cost
from atomthink_plugin.training.records import write_records


@dataclass(frozen=True, slots=True)
class Annotation:
    """The result of a run.

    Attributes:
        asked: Number of questions that were read, or of steps to corrupt.
        good: Number of those with a result; they and the rejects are all that were asked.
        chains: Records of the chains, in the order of the questions.
        rejects: The others; see `AttemptError.reject`.
    """

    asked: int
    good: int
    chains: Sequence[Mapping[str, Any]]
    rejects: Sequence[Mapping[str, Any]]

    def write(self, folder: Path, header: Mapping[str, Any], spent: Cost | None = None) -> None:
        """Writes `chains.jsonl`, `rejects.jsonl` and `summary.json`, and prints the summary.

        Args:
            folder: The output folder.
            header: The first fields of the summary.
            spent: Cost of this and all earlier runs; None if nothing is paid.

        Raises:
            AtomThinkError: A file cannot be written, or the counts do not add up.
        """
        rejects, left = self.reasons(), self.asked
        write_records(folder / "chains.jsonl", self.chains)
        write_records(folder / "rejects.jsonl", self.rejects)
        summary = {
            **header,
            "asked": self.asked,
            "good": self.good,
            "rejected": len(self.rejects),
            "rejects": {stage: dict(reasons) for stage, reasons in rejects.items()},
            "left": {stage: (left := left - rejects[stage].total() if stage in rejects else left) for stage in STAGES},
            "chains": len(self.chains),
            "steps": sum(len(chain["steps"]) for chain in self.chains),
            **({"spent": {**asdict(spent), "tokens": spent.tokens}} if spent else {}),
        }
        write_json("--out", folder / "summary.json", summary)

        what = "steps" if header["method"] == "corrupt" else "questions"
        print(f"{self.good} of {self.asked} {what} gave {len(self.chains)} chains: {folder / 'chains.jsonl'}")
        self.print_rejects(folder / "rejects.jsonl", what)
        if spent:
            print(
                f"{spent.calls} calls, {spent.prompt} prompt tokens ({spent.cached} cached), {spent.completion} "
                f"completion tokens, up to {spent.unknown} more that were not counted, {spent.usd:.4f} USD"
            )

    def reasons(self) -> dict[Stage, Counter[str]]:
        """Returns how many were rejected for which reasons at each stage, without stages that rejected none.

        Raises:
            AtomThinkError: The counts do not add up.
        """
        if self.asked != self.good + len(self.rejects):
            counts = f"{self.asked} questions are not {self.good} results and {len(self.rejects)} rejects"
            raise AtomThinkError(f"{counts}. Please report this")
        found = {stage: Counter(one["reason"] for one in self.rejects if one["stage"] == stage) for stage in STAGES}
        return {stage: reasons for stage, reasons in found.items() if reasons}

    def print_rejects(self, file: Path, what: str = "questions") -> None:
        """Prints how many were rejected and why. `file` has the details."""
        if self.rejects:
            print(f"{len(self.rejects)} {what} were rejected, with details in {file}:")
        for stage, reasons in self.reasons().items():
            for reason, count in reasons.most_common():
                print(printable(f"{count:8d}  {stage}: {reason}"))
