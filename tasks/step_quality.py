"""How well a reply is made of atomic steps, told from its text alone: for the replies of any model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from atomthink_plugin.answers import final_answer
from atomthink_plugin.formats.steps import check, split_steps

MAX_TEXT: Final = 100_000
"""Characters of a reply that are looked at: what is longer is no chain of thought."""

MAX_STEPS: Final = 200
"""Steps that are compared with all earlier ones; further ones count as steps that are not valid."""

_REPEATS: Final = frozenset({"repeats itself", "repeats an earlier step"})


@dataclass(frozen=True, slots=True)
class Quality:
    """The steps of one reply.

    Attributes:
        steps: How many there are.
        valid: How many pass the step check.
        repeated: How many repeat themselves or an earlier one.
        concluded: Whether a final answer is stated.
    """

    steps: int
    valid: int
    repeated: int
    concluded: bool

    @property
    def well_formed(self) -> bool:
        """Whether it is a chain as it should be: valid steps only, and a final answer."""
        return self.concluded and 0 < self.steps == self.valid


def quality(reply: str) -> Quality:
    """Looks at the steps of a reply."""
    text = reply[:MAX_TEXT]
    steps = split_steps(text)
    faults = [check(step, steps[:at]) for at, step in enumerate(steps[:MAX_STEPS])]
    return Quality(
        steps=len(steps),
        valid=faults.count(None),
        repeated=sum(fault in _REPEATS for fault in faults),
        concluded=final_answer(text[-MAX_TEXT:]) is not None,
    )


def summary(found: Sequence[Quality]) -> dict[str, float | None]:
    """Returns steps per answer, the share of well-formed chains and the share of repeated steps.

    Replies without any step (empty ones) count in none of them; without any reply all are None.
    """
    chains = [one for one in found if one.steps]
    steps = sum(one.steps for one in chains)
    if not chains:
        return {"per_answer": None, "well_formed": None, "repeated": None}
    return {
        "per_answer": round(steps / len(chains), 3),
        "well_formed": round(sum(one.well_formed for one in chains) / len(chains), 4),
        "repeated": round(sum(one.repeated for one in chains) / steps, 4),
    }


def mean(values: Sequence[float]) -> float | None:
    """Returns the mean, None of nothing."""
    return math.fsum(values) / len(values) if values else None
