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
    """A benchmark and the columns of its data set that are used.

    Attributes:
        name: The benchmark's name for the judges in `scoring`.
        dataset: The name of the data set on the hub.
        image: The column with the image.
        fields: The columns that are written to the samples file, and from there to a submission.
        groups: Returns the values under which a question is counted, by grouping. The headline grouping comes first.
        judge_question: Returns the question as an LLM judge gets it.
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
