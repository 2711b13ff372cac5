"""Muon for matrices, AdamW for the rest, one trapezoidal schedule."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import torch
from torch import nn

WARMUP: Final = 50
NO_MUON: Final = ("embed", "projector")
"""Muon's steps have one size for all matrices, too large for the small weights that scale the tower's output."""


class Optimiser:
    """Steps two optimisers together for a known number of iterations; frozen parameters stay as they are.

    The learning rate rises over `WARMUP` iterations and falls linearly to zero over the last `decay` share.
    """

    def __init__(
        self,
        model: nn.Module,
        iterations: int,
        muon: float = 0.02,
        adam: float = 3e-3,
        decay: float = 0.5,
        extra: Iterable[nn.Parameter] = (),
    ) -> None:
        trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        matrices = [p for name, p in trained if p.ndim == 2 and not any(part in name for part in NO_MUON)]
        chosen = {id(p) for p in matrices}
        rest = [p for _, p in trained if id(p) not in chosen]
        self._parameters = [*matrices, *rest]
        groups = [{"params": rest, "lr": adam}, {"params": list(extra), "lr": 0.02}]
        self._optimisers: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(matrices, lr=muon, weight_decay=0.0, momentum=0.95),
            torch.optim.AdamW([g for g in groups if g["params"]], betas=(0.9, 0.98), weight_decay=0.0),
        )
        self._schedules = [
            torch.optim.lr_scheduler.LambdaLR(o, lambda i: _factor(i, iterations, decay)) for o in self._optimisers
        ]

    def step(self, loss: torch.Tensor) -> None:
        """Takes one step down `loss`, gradients clipped to norm 1."""
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        for optimiser, schedule in zip(self._optimisers, self._schedules, strict=True):
            optimiser.step()
            schedule.step()
            optimiser.zero_grad(set_to_none=True)


def _factor(iteration: int, iterations: int, decay: float) -> float:
    rise = (iteration + 1) / WARMUP
    fall = (iterations - iteration) / (decay * iterations)
    return max(min(1.0, rise, fall), 0.0)
