"""What a task module says of its benchmark, for scoring, breakdowns and submissions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from atomthink_plugin.api import AtomThinkError

Document = Mapping[str, Any]
"""One row of a benchmark's data set, with or without its image columns."""

BenchmarkName = Literal["mathvista", "mathverse", "mathvision"]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark as its data set on the hub has it.

    Attributes:
        name: What the scorer calls it.
        dataset: BenchmarkName of the data set.
        image: The column with the image.
        fields: Columns that go into the samples file, and from there into a submission.
        groups: Returns by which values of which groupings a question counts, the headline grouping first.
        evaluated: Returns what an LLM judge is told to be the question.
    """

    name: BenchmarkName
    dataset: str
    image: str
    fields: tuple[str, ...]
    groups: Callable[[Document], Mapping[str, tuple[str, ...]]]
    evaluated: Callable[[Document], str]

    def require_columns(self, doc: Document) -> None:
        """Raises AtomThinkError if a row lacks a column that is needed; the harness asks without images first."""
        self._require(doc, self.fields)

    def images(self, doc: Document) -> list[Image.Image]:
        """Returns the question's image as RGB, none for a question of text alone.

        Raises:
            AtomThinkError: There is no such column.
        """
        self._require(doc, (self.image,))
        image = doc[self.image]
        return [image.convert("RGB")] if isinstance(image, Image.Image) else []

    def _require(self, doc: Document, columns: Sequence[str]) -> None:
        missing = [column for column in columns if column not in doc]
        if missing:
            raise AtomThinkError(
                f"`{self.dataset}` has no column `{'`, `'.join(missing)}`, which its tasks need; it has "
                f"{', '.join(sorted(doc))}: is another data set or another version of it in its place?"
            )

    def record(self, doc: Document) -> dict[str, Any]:
        """Returns the benchmark's own record of a question: text alone, whole numbers as such."""
        record = {name: doc[name] for name in self.fields}
        if record.get("precision") is not None:  # the hub stores it as a float
            record["precision"] = int(record["precision"])
        return record


def answer_of(doc: Document) -> str | None:
    """Returns the reference answer, None where a split keeps it hidden."""
    answer = doc.get("answer")
    return str(answer) if answer is not None and str(answer).strip() else None
