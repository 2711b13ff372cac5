"""A stand-in for torch's flash kernel on devices that have none."""

from __future__ import annotations

import torch

from atomthink_plugin.inference.slots.attention_kernel import plain_attention


def flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cum_seq_q: torch.Tensor,
    cum_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    dropout_p: float,
    is_causal: bool,
    return_debug_mask: bool,
    *,
    scale: float,
    seqused_k: torch.Tensor,
    num_splits: int,
) -> tuple[torch.Tensor, ...]:
    """torch's flash kernel by its documentation, for devices that have none."""
    assert (dropout_p, return_debug_mask, num_splits) == (0.0, False, 1)
    assert {one.dtype for one in (cum_seq_q, cum_seq_k, seqused_k)} == {torch.int32}
    assert len(cum_seq_q) == len(cum_seq_k) == len(seqused_k) + 1
    groups = query.shape[1] // key.shape[1]
    out, lse = torch.full_like(query, torch.nan), torch.full(query.shape[:2], torch.nan)
    for at, (start, seen) in enumerate(zip(cum_seq_k.tolist(), seqused_k.tolist(), strict=False)):
        first, end = cum_seq_q[at : at + 2].tolist()
        assert end - first <= max_q
        assert seen <= max_k
        if first == end:
            continue
        keys, values = (
            one[start : start + seen].repeat_interleave(groups, 1).transpose(0, 1)[None] for one in (key, value)
        )
        hidden = torch.ones(end - first, seen, dtype=torch.bool).triu(seen - (end - first) + 1)
        bias = torch.zeros(hidden.shape).masked_fill(hidden, -torch.inf)[None, None] if is_causal else None
        one, sums = plain_attention(query[first:end].transpose(0, 1)[None], keys, values, bias, scale)
        out[first:end], lse[first:end] = one[0].transpose(0, 1), sums[0].T
    return out, lse.T, torch.empty(0), torch.empty(0), torch.empty(0)
