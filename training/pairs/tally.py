"""What became of everything that pairs were to be made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from atomthink_plugin.training.records import Reject


@dataclass(frozen=True, slots=True)
class Tally:
    """What becomes of everything that is read; what is set aside counts as read too.

    Attributes:
        counts: How many of what.
        rejects: What gives no pair because it cannot.
    """

    counts: Counter[str] = field(default_factory=Counter)
    rejects: list[Reject] = field(default_factory=list)

    def aside(self, what: str, rejects: Sequence[Reject]) -> None:
        """Sets records of a kind aside."""
        self.rejects.extend(rejects)
        for name in (what, f"{what} set aside"):
            self.counts[name] += len(rejects)
