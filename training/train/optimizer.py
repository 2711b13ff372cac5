"""AdamW, alone or with Muon for the matrices; one optimiser to a trainer, so that it is scheduled, saved and resumed.

Muon's updates have one size for all matrices, too large for embeddings and for the small weights that scale a vision
tower's output: those stay with AdamW. Source: Muon (https://kellerjordan.github.io/posts/muon), as torch has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from re import search
from typing import Any, Final

import torch
from torch import nn

NO_MUON: Final = ("embed", "projector", "lm_head")


class Together(torch.optim.Optimizer):
    """Several optimisers that step as one; their groups are one list."""

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        # Schedulers write learning rates into the groups: they have to be the parts' own.
        self.param_groups = [group for part in parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Steps every part; a closure is not supported."""
        if closure is not None:
            raise ValueError("a closure cannot be given to several optimisers at once: leave it out")
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Returns the parts' states."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the parts' states back."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]


def optimiser(
    model: nn.Module,
    rate: float,
    *,
    muon: float | None = None,
    decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    rates: Mapping[str, float] | None = None,
) -> torch.optim.Optimizer:
    """Returns the optimiser of all parameters that are trained.

    Args:
        model: Parameters that need no gradient stay as they are.
        rate: AdamW's learning rate.
        muon: Muon's, for matrices that are no embedding and no projector; None for AdamW alone.
        decay: Weight decay of matrices; vectors have none.
        betas: AdamW's.
        rates: Learning rates of AdamW for parameters whose name a pattern is found in; the first that fits holds.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    matrices: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        axes = len(getattr(parameter, "ds_shape", parameter.shape))  # DeepSpeed has taken the weights themselves
        own = next((value for pattern, value in (rates or {}).items() if search(pattern, name)), None)
        if muon is not None and own is None and axes == 2 and not any(part in name for part in NO_MUON):
            matrices.append(parameter)
        else:
            key = (rate if own is None else own, decay if axes >= 2 else 0.0)
            groups.setdefault(key, []).append(parameter)
    adamw = torch.optim.AdamW(
        [{"params": params, "lr": lr, "weight_decay": wd} for (lr, wd), params in groups.items()], lr=rate, betas=betas
    )
    if not matrices or muon is None:
        return adamw
    return Together([adamw, torch.optim.Muon(matrices, lr=muon, weight_decay=0.0, momentum=0.95)])
