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
from atomthink_plugin.training.annotate.filters import STAGES
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
        left, good, rejected = self.asked, self.good, len(self.rejects)
        if left != good + rejected:
            raise AtomThinkError(f"{left} questions are not {good} results and {rejected} rejects. Please report this")
        write_records(folder / "chains.jsonl", self.chains)
        write_records(folder / "rejects.jsonl", self.rejects)
        rejects = {stage: Counter(one["reason"] for one in self.rejects if one["stage"] == stage) for stage in STAGES}
        summary = {
            **header,
            "asked": self.asked,
            "good": good,
            "rejected": rejected,
            "rejects": {stage: dict(reasons) for stage, reasons in rejects.items() if reasons},
            "left": {stage: (left := left - reasons.total()) for stage, reasons in rejects.items()},
            "chains": len(self.chains),
            "steps": sum(len(chain["steps"]) for chain in self.chains),
            **({"spent": {**asdict(spent), "tokens": spent.tokens}} if spent else {}),
        }
        write_json("--out", folder / "summary.json", summary)

        what = "steps" if header["method"] == "corrupt" else "questions"
        print(f"{good} of {self.asked} {what} gave {len(self.chains)} chains: {folder / 'chains.jsonl'}")
        if rejected:
            print(f"{rejected} {what} were rejected, with details in {folder / 'rejects.jsonl'}:")
        for stage, reasons in rejects.items():
            for reason, count in reasons.most_common():
                print(printable(f"{count:8d}  {stage}: {reason}"))
        if spent:
            print(
                f"{spent.calls} calls, {spent.prompt} prompt tokens ({spent.cached} cached), {spent.completion} "
                f"completion tokens, up to {spent.unknown} more that were not counted, {spent.usd:.4f} USD"
            )
