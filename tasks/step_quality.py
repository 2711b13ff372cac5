"""The form of a reply's steps: how many are valid, how many repeat others, and whether the reply concludes.

It is computed from the text alone, so it applies to the replies of any model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from atomthink_plugin.answers import final_answer
from atomthink_plugin.formats.steps import check, split_steps

MAX_TEXT: Final = 100_000
"""Characters of a reply that are read. No chain of thought is longer."""

MAX_STEPS: Final = 200
"""Steps that are compared with all earlier ones. Later steps count as invalid."""

_REPEATS: Final = frozenset({"repeats itself", "repeats an earlier step"})


@dataclass(frozen=True, slots=True)
class StepQuality:
    """The form of the steps of one reply.

    Attributes:
        steps: Number of steps.
        valid: Number of steps that pass the step check.
        repeated: Number of steps that repeat themselves or an earlier step.
        concluded: Whether the reply states a final answer.
    """

    steps: int
    valid: int
    repeated: int
    concluded: bool

    @property
    def well_formed(self) -> bool:
        """Whether all steps are valid and the reply states a final answer."""
        return self.concluded and 0 < self.steps == self.valid


def step_quality(reply: str) -> StepQuality:
    """Checks the steps of a reply."""
    text = reply[:MAX_TEXT]
    steps = split_steps(text)
    faults = [check(step, steps[:index]) for index, step in enumerate(steps[:MAX_STEPS])]
    return StepQuality(
        steps=len(steps),
        valid=faults.count(None),
        repeated=sum(fault in _REPEATS for fault in faults),
        concluded=final_answer(text) is not None,
    )


def summarize(replies: Sequence[StepQuality]) -> dict[str, float | None]:
    """Returns steps per answer, the share of well-formed chains, and the share of repeated steps.

    Replies without a step are left out. If no reply has a step, all values are None.
    """
    chains = [reply for reply in replies if reply.steps]
    steps = sum(chain.steps for chain in chains)
    if not chains:
        return {"per_answer": None, "well_formed": None, "repeated": None}
    return {
        "per_answer": round(steps / len(chains), 3),
        "well_formed": round(sum(chain.well_formed for chain in chains) / len(chains), 4),
        "repeated": round(sum(chain.repeated for chain in chains) / steps, 4),
    }
