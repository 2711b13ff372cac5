"""Decoder layers compiled for captured passes: norms, rotary embeddings and activations become a few kernels."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any, Final

import torch
from transformers import AttentionInterface, PreTrainedModel

from atomthink_plugin.inference.checkpoint_files import first_line
from atomthink_plugin.inference.slots import attention

log = logging.getLogger(__name__)

_NEAR: Final = 0.1
"""Largest difference of compiled layers' logits, as a share of the logits' own size."""

_VARIANTS: Final = 64
"""Compiled variants of one function at most: models of several classes in one process count together."""


class LayerCompiler:
    """Compiles a model's decoder layers, unless that fails or changes its logits by more than rounding does.

    Attributes:
        used: Whether the layers were compiled.

    Args:
        model: The model.
        compiles: Whether to compile at all.
    """

    def __init__(self, model: PreTrainedModel, compiles: bool) -> None:
        self.used = False
        self._model: Any = model
        self._compiles = compiles

    def context(self, logits: Callable[[], torch.Tensor]) -> AbstractContextManager[None]:
        """Returns a context in which the layers run as compiled code, or as they are if they cannot be compiled.

        Args:
            logits: A forward pass over as many tokens as will be read inside.
        """
        if not self._compiles:
            return nullcontext()
        plain = logits().float()
        try:
            layers = list(self._model.get_decoder().layers)
            with _compiled(layers):
                difference = logits().float() - plain
            off = float(difference.norm() / (plain - plain.mean()).norm())
            fault = "" if off < _NEAR else f"that changes the logits by {off:.0%}"
        except Exception as error:
            fault = f"{type(error).__name__}: {first_line(error)}"
        self.used = not fault
        if not fault:
            return _compiled(layers)
        log.warning("decoder layers are not compiled: %s", fault)
        self._compiles = False
        return nullcontext()


@cache
def _opaque_attention() -> Any:
    return torch.compiler.disable(attention.attend)  # type: ignore[no-untyped-call]


@contextmanager
def _compiled(layers: list[Any]) -> Iterator[None]:
    """Lets layers run as compiled code, which later contexts use again.

    Each new number of tokens would be compiled again until torch generalises it, which it does at the second one. Equal
    layers share their code. The attention function, which needs the layer's number, is not compiled.
    """
    for layer in layers:
        layer.compile()
    AttentionInterface.register(attention.NAME, _opaque_attention())
    try:
        with torch._dynamo.config.patch(recompile_limit=_VARIANTS):
            yield
    finally:
        AttentionInterface.register(attention.NAME, attention.attend)
        for layer in layers:
            layer._compiled_call_impl = None
