"""A benchmark as its data set on the hub has it: columns, images, and groups of questions."""

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
    judge_question: Callable[[Document], str]

    def require_columns(self, doc: Document) -> None:
        """Raises AtomThinkError if a row lacks one of `fields`. lmms-eval loads rows without their images first."""
        self._require(doc, self.fields)

    def images(self, doc: Document) -> list[Image.Image]:
        """Returns the question's image as RGB; the list is empty for a question without an image.

        Raises:
            AtomThinkError: The row has no image column.
        """
        self._require(doc, (self.image,))
        image = doc[self.image]
        return [image.convert("RGB")] if isinstance(image, Image.Image) else []

    def _require(self, doc: Document, columns: Sequence[str]) -> None:
        missing = [column for column in columns if column not in doc]
        if missing:
            raise AtomThinkError(
                f"the data set `{self.dataset}` has no column `{'`, `'.join(missing)}`. Its columns are "
                f"{', '.join(sorted(doc))}. Check whether it is the right data set, in the right version"
            )

    def record(self, doc: Document) -> dict[str, Any]:
        """Returns the fields of a question in the benchmark's own form, without images."""
        record = {name: doc[name] for name in self.fields}
        if record.get("precision") is not None:  # an integer that the hub stores as a float
            record["precision"] = int(record["precision"])
        return record


def reference_answer(doc: Document) -> str | None:
    """Returns the reference answer, None if the split hides it."""
    answer = doc.get("answer")
    return str(answer) if answer is not None and str(answer).strip() else None
