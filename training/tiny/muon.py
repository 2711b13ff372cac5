"""Muon for the embedded model's matrices, with AdamW for its other weights, as one optimizer.

All updates of Muon have the same size, which is too large for embeddings and for the small weights that scale the
vision tower's output. Source: Muon (https://kellerjordan.github.io/posts/muon), as torch has it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import nn

NO_MUON: Final = ("embed", "projector", "lm_head")


class JoinedOptimizer(torch.optim.Optimizer):
    """Several optimizers that step as one; `param_groups` has the groups of all."""

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        # Schedulers write learning rates into the groups: they have to be the parts' own.
        self.param_groups = [group for part in parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Steps every part; a closure is not supported."""
        if closure is not None:
            raise ValueError("`closure` is not supported: leave it out")
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Returns the parts' states."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the parts' states."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]


def muon_with_adamw(
    model: nn.Module, *, muon: float, learning_rate: float, betas: tuple[float, float]
) -> JoinedOptimizer:
    """Returns the optimizer of all trained parameters.

    Args:
        model: The model.
        muon: Learning rate of matrices that are neither embeddings nor part of the projector.
        learning_rate: AdamW's, for all other parameters.
        betas: AdamW's.
    """
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_matrix = parameter.dim() == 2 and not any(part in name for part in NO_MUON)
            (matrices if is_matrix else others).append(parameter)
    adamw = torch.optim.AdamW(others, lr=learning_rate, betas=betas, weight_decay=0.0)
    return JoinedOptimizer([adamw, torch.optim.Muon(matrices, lr=muon, weight_decay=0.0, momentum=0.95)])
