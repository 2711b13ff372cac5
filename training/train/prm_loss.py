"""What a PRM learns: cross-entropy between its two classes at every judged step, as in the paper (section 3.3).

    L = - sum over steps of  y log r + (1 - y) log(1 - r),   r = softmax(z_wrong, z_right)_right

Two helps may be added, for small models and few labels: the same judgement at the step's own tokens, where it is
known from which token on a wrong step is wrong, and the language model's loss on what is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from atomthink_plugin.training.train.prm_tokens import Row


@dataclass(frozen=True, slots=True)
class Places:
    """Where a batch is read, and what should be there.

    Attributes:
        row: Row of each place.
        at: Position in that row.
        target: Probability that the step is right, or a token's id.
    """

    row: Tensor
    at: Tensor
    target: Tensor


@dataclass(frozen=True, slots=True)
class Targets:
    """All that a batch is trained on."""

    steps: Places
    along: Places
    said: Places

    @property
    def counts(self) -> Tensor:
        """How many steps are judged, and how many tokens should be said: `[2]`."""
        return torch.tensor([len(self.steps.at), len(self.said.at)])

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Targets:
        """Returns the targets of rows, in their order."""
        return cls(
            _places([(i, step.at, step.right) for i, row in enumerate(rows) for step in row.steps], torch.float32),
            _places([(i, token.at, token.right) for i, row in enumerate(rows) for token in row.along], torch.float32),
            _places([(i, word.at, word.token) for i, row in enumerate(rows) for word in row.said], torch.long),
        )


def judgements(logits: Tensor, places: Places, classes: tuple[int, int] | None) -> Tensor:
    """Returns the logits `[places, 2]`, wrong then right, in float32.

    Args:
        logits: `[rows, positions, outputs]`.
        places: Where to read.
        classes: Ids of the bad and the good token; None for a classifier, whose outputs are the two classes.
    """
    read = logits[places.row.to(logits.device), places.at.to(logits.device)]
    return (read if classes is None else read[:, list(classes)]).float()


def judging_loss(pairs: Tensor, right: Tensor, weights: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    """Returns the cross-entropy summed over places, a scalar.

    A sum, so that what it is divided by can be counted over all batches of one optimiser step: a mean in each of them
    would undo the weights where a batch has steps of one class alone.

    Args:
        pairs: `[places, 2]`, as `judgements` gives them.
        right: `[places]`, in [0, 1].
        weights: Of wrong and of right steps.
    """
    right = right.to(pairs.device)
    bad, good = pairs.log_softmax(-1).unbind(-1)
    return -(weights[1] * right * good + weights[0] * (1 - right) * bad).sum()


def language_loss(logits: Tensor, places: Places) -> Tensor:
    """Returns the cross-entropy of the tokens that should be said, summed over them, a scalar."""
    read = logits[places.row.to(logits.device), places.at.to(logits.device)].float()
    return cross_entropy(read, places.target.to(logits.device), reduction="sum")


def _places(found: Sequence[tuple[int, int, float]], dtype: torch.dtype) -> Places:
    row, at, target = zip(*found, strict=True) if found else ((), (), ())
    return Places(
        torch.tensor(row, dtype=torch.long), torch.tensor(at, dtype=torch.long), torch.tensor(target, dtype=dtype)
    )
