"""Rows for the PRM: steps with a verdict on each, from chains and from calculations out of the blue."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from torch import Tensor

from atomthink_plugin.formats import SEPARATOR
from atomthink_plugin.tasks.demo.questions import DemoQuestion, training_stream
from atomthink_plugin.training.tiny.data import Codec, Pool
from atomthink_plugin.training.tiny.labels import corrupted_steps, verdicts

NOBODY: Final = -1
CLAIMS_PER_ROW: Final = 9
EQUALS: Final = " = "


@dataclass(frozen=True, slots=True)
class Judged:
    """A sequence with the verdicts on its steps.

    Attributes:
        ids: All tokens.
        owners: For each token the index of the step whose likelihood it counts for, or `NOBODY`.
        right: The verdict on each step.
        pixels: The figure; None for text alone.
    """

    ids: list[int]
    owners: list[int]
    right: list[bool]
    pixels: Tensor | None = None


def judged(codec: Codec, question: DemoQuestion, steps: Sequence[str], pixels: Tensor) -> Judged:
    """Returns a finished chain with its exact labels."""
    ids = codec.prompt(question.text)
    owners = [NOBODY] * len(ids)
    for index, step in enumerate(codec.steps(steps)):
        ids += step
        owners += [index] * len(step)
    return Judged(ids, owners, verdicts(question, steps), pixels)


def corrupted_chains(codec: Codec, pool: Pool, seed: int) -> Iterator[Judged]:
    """Yields gold chains, three quarters of them with wrong numbers in some steps."""
    rng = random.Random(f"corruption {seed}")
    for question, pixels in pool.questions():
        clean = rng.random() < 0.25
        steps = question.steps if clean else corrupted_steps(question, rng)
        yield judged(codec, question, steps, pixels)


def claim_rows(codec: Codec, seed: int) -> Iterator[Judged]:
    """Yields rows of calculations without image and question: cheap, many comparisons per second.

    What is calculated cannot be known here, so only the tokens after the equals sign count.
    """
    claims = _claims(seed)
    while True:
        ids: list[int] = []
        owners: list[int] = []
        right: list[bool] = []
        for index, (claim, verdict) in enumerate(islice(claims, CLAIMS_PER_ROW)):
            head, _, result = claim.partition(EQUALS)
            given, stated = codec.encode(head + EQUALS), codec.encode(result + SEPARATOR)
            ids += [*given, *stated]
            owners += [*[NOBODY] * len(given), *[index] * len(stated)]
            right.append(verdict)
        yield Judged(ids, owners, right)


def _claims(seed: int) -> Iterator[tuple[str, bool]]:
    """Yields calculations as they occur in chains; subtractions, the hardest, twice as often."""
    rng = random.Random(f"claims {seed}")
    for question in training_stream(seed):
        steps = corrupted_steps(question, rng)
        for action, step, right in zip(question.plan(), steps, verdicts(question, steps), strict=True):
            if action.verb == "compute" and (action.operator == "-" or rng.random() < 0.5):
                yield step, right
