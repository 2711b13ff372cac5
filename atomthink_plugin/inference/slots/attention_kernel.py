"""Attention that also returns the log-sum-exp of its scores, by the fastest kernel of the device."""

from __future__ import annotations

from typing import Final

import torch

_FLASH: Final = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
"""torch's fused kernel for CPUs; the public function for attention returns no log-sum-exp."""


def attention_with_lse(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, bias: torch.Tensor | None, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns attention, `[rows, heads, queries, value width]`, and log-sum-exp, `[rows, heads, queries]`, in float32.

    Args:
        queries: `[rows, heads, queries, width]`.
        keys: `[rows, heads, tokens, width]`.
        values: `[rows, heads, tokens, value width]`.
        bias: Added to the scores, `[rows, 1, 1 or queries, tokens]`; None for none.
        scale: Factor of the scores.
    """
    if queries.device.type == "cpu" and keys.shape[-1] == values.shape[-1]:
        if bias is not None:
            bias = bias.expand(*queries.shape[:3], -1)
        out, lse = _FLASH(queries, keys, values, 0.0, False, attn_mask=bias, scale=scale)
        return out, lse
    return plain_attention(queries, keys, values, bias, scale)


def plain_attention(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, bias: torch.Tensor | None, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same by its definition, in float32."""
    scores = (queries.float() @ keys.float().transpose(-1, -2)) * scale
    if bias is not None:
        scores = scores + bias
    lse = torch.logsumexp(scores, dim=-1)
    out = torch.exp(scores - lse[..., None]) @ values.float()
    return out.to(queries.dtype), lse
