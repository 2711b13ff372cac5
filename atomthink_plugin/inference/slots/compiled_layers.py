"""Decoder layers compiled for decode steps: norms, rotary embeddings and activations become a few kernels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from transformers import AttentionInterface, PreTrainedModel

from atomthink_plugin.inference.slots import attention

_VARIANTS: Final = 64
"""Compiled variants of one function at most: models of several classes in one process count together."""


def layers_of(model: PreTrainedModel) -> list[Any]:
    """Returns the decoder layers of a model; none if it keeps them under another name than transformers' models do."""
    return list(getattr(model.get_decoder(), "layers", None) or ())


@contextmanager
def compiled(layers: list[Any]) -> Iterator[None]:
    """A context in which layers run as compiled code, which later contexts use again.

    Only decode steps should run inside: each number of tokens would be compiled anew until torch generalises it, which
    it does at the second one. Equal layers share their code. The attention function, which needs the layer's number,
    is not compiled.

    Args:
        layers: Decoder layers of one model.
    """
    for layer in layers:
        layer.compile()
    AttentionInterface.register(attention.NAME, torch.compiler.disable(attention.attend))
    try:
        with torch._dynamo.config.patch(recompile_limit=_VARIANTS):  # type: ignore[no-untyped-call]
            yield
    finally:
        AttentionInterface.register(attention.NAME, attention.attend)
        for layer in layers:
            layer._compiled_call_impl = None
