"""A labelled chain with what the PRM said."""

from __future__ import annotations

from dataclasses import dataclass

from atomthink_plugin.training.evaluate.labelled import Labelled


@dataclass(frozen=True, slots=True)
class Scored:
    """A labelled chain with the score of each step, in [0, 1]."""

    item: Labelled
    scores: tuple[float, ...]

    def first_flagged(self, threshold: float) -> int | None:
        """Returns the index of the first step scored below the threshold, None if there is none."""
        return next((index for index, score in enumerate(self.scores) if score < threshold), None)

    def judged(self) -> list[tuple[float, bool]]:
        """Returns score and label of every step whose label is known."""
        pairs = zip(self.scores, self.item.labels, strict=True)
        return [(score, label) for score, label in pairs if label is not None]
