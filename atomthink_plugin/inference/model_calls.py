"""Forward passes of a model over parts of a prompt."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Final

import torch
from transformers import PretrainedConfig
from transformers.cache_utils import Cache

from atomthink_plugin.inference.checkpoints import Checkpoint
from atomthink_plugin.inference.encoding import Encoding

_CACHE: Final = ("cache", "past_key_values")
"""What a forward pass calls its cache: transformers from 5.24 on, and before."""


class CannotForkError(Exception):
    """A model's states cannot be cut and joined; the message says why."""


def layer_kinds(config: PretrainedConfig) -> set[str]:
    """Returns the kinds of a text model's layers, by transformers' names for them; empty if its config names none.

    Layers whose rotary frequencies depend on the longest row of a pass are of kind `longrope` as well.

    Args:
        config: The text model's config. Mistral's has a sliding window and no kinds.
    """
    kinds = set(getattr(config, "layer_types", None) or ())
    kinds = kinds or ({"sliding_attention"} if getattr(config, "sliding_window", None) else set())
    return kinds | ({"longrope"} if _has_longrope(config) else set())


def _has_longrope(config: PretrainedConfig) -> bool:
    """Whether sequences beyond a length have other rotary frequencies: all rows of a pass get those of the longest."""
    rope = getattr(config, "rope_parameters", None) or {}
    context, short = getattr(config, "max_position_embeddings", 0), rope.get("original_max_position_embeddings", 0)
    return rope.get("rope_type") == "longrope" and short < context


class ModelCalls:
    """Calls a model with a cache, positions and the logits that are wanted, by the names that it knows.

    Args:
        checkpoint: The model; its lock is the caller's to hold.

    Raises:
        CannotForkError: It takes no cache or no positions.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._model: Any = checkpoint.model
        takes = inspect.signature(checkpoint.model.forward).parameters
        self._named = next((name for name in _CACHE if name in takes), "")
        if not self._named or "position_ids" not in takes:
            raise CannotForkError("its forward pass takes no cache or no positions")
        self.keeps = "logits_to_keep" in takes

    def forward(
        self,
        *,
        keep: int | torch.Tensor,
        cache: Cache | None = None,
        position_ids: torch.Tensor | None = None,
        **inputs: Any,
    ) -> Any:
        """Returns the model's output.

        Args:
            keep: Last tokens whose logits are wanted, or the indices of the tokens. A model that cannot restrict them
                gives the logits of all tokens; see `keeps`.
            cache: Earlier tokens.
            position_ids: `[rows, tokens]`; by default the model's own.
            **inputs: All other inputs.
        """
        inputs[self._named] = cache
        if self.keeps:
            inputs["logits_to_keep"] = keep
        if position_ids is not None:
            inputs["position_ids"] = position_ids  # a model with several axes gives each the positions of text
        return self._model(**inputs, use_cache=True)

    def shift(self, prompts: Sequence[Encoding]) -> list[int]:
        """Offset that images add to the positions of the text after them (M-RoPE), for each row of the last prefill."""
        holders = (self._model, getattr(self._model, "model", None))
        deltas = next((held for at in holders if (held := getattr(at, "rope_deltas", None)) is not None), None)
        if deltas is None or prompts[0].images == 0:  # without images the last call's deltas are still there
            return [0] * len(prompts)
        return [int(delta) for delta in deltas.flatten().tolist()]
