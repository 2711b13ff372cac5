"""Whether the flash kernel of a device answers as attention is defined, tried before the first forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch

from atomthink_plugin.inference.checkpoint_files import first_line
from atomthink_plugin.inference.slots.attention import AttentionPlan
from atomthink_plugin.inference.slots.dense_attention import DensePlan
from atomthink_plugin.inference.slots.pool import KvPool, PoolShape, TokenRun
from atomthink_plugin.inference.slots.row import Chunk, Row
from atomthink_plugin.inference.slots.varlen_attention import FixedVarlenPlan, VarlenPlan

_WIDEST: Final = 256
"""Numbers of a key at most that the kernel knows."""

_NEAR: Final = 0.1
"""Largest difference allowed in half precision, of numbers up to about 4."""

_ROWS: Final = ((70, 5), (3, 1), (70, 33), (3, 90), (70, 1))
"""Shared and own tokens of the rows that are tried, on purpose in no order."""


def varlen_fault(shape: PoolShape, groups: int) -> str | None:
    """Returns why the kernel cannot be used; None if it can.

    Args:
        shape: Of the pool.
        groups: Query heads for each head of keys.
    """
    width = shape.key_width
    if shape.dtype not in (torch.float16, torch.bfloat16):
        return f"it computes in half precision only, not in {shape.dtype}"
    if width != shape.value_width or width % 8 or width > _WIDEST:
        return f"it knows no keys of width {width} with values of width {shape.value_width}"
    try:
        with torch.inference_mode():
            worst = largest_difference(shape, groups)
    except Exception as error:
        return f"{type(error).__name__}: {first_line(error)}"
    return None if worst < _NEAR else f"it differs by {worst:.2g} from attention by its definition"


def largest_difference(shape: PoolShape, groups: int) -> float:
    """Returns by how much the kernel differs at most from dense attention, in passes and in decode steps.

    Args:
        shape: Of the pool.
        groups: Query heads for each head of keys.
    """
    one = PoolShape(1, shape.heads, shape.key_width, shape.value_width, shape.dtype, shape.device)
    pool = KvPool(one, 2**15)
    random = torch.Generator(shape.device).manual_seed(0)
    pool.keys.normal_(generator=random)
    pool.values.normal_(generator=random)
    runs = {length: TokenRun(pool, pool.allocate(length), 0, length) for length, _ in _ROWS}
    rows = [Row(runs[shared], pool.allocate(own + 8), own) for shared, own in reversed(_ROWS)]
    read = [Chunk(row, range(3 - at % 3)) for at, row in enumerate(rows)]
    step = [Chunk(row, (0,)) for row in sorted(rows, key=lambda row: len(row.shared))]
    fixed = FixedVarlenPlan(len(step) + 3, pool.allocate(1).start, one, groups, longest=4096)
    fixed.load(step)
    plans: list[tuple[AttentionPlan, Sequence[Chunk]]] = [(VarlenPlan(read, one, groups), read), (fixed, step)]
    worst = 0.0
    for plan, chunks in plans:
        shown = (len(plan.places), one.heads * groups, one.key_width)
        # Larger queries than usual, so that a single key too many or too few shows.
        queries = (2 * torch.randn(shown, generator=random, device=one.device)).to(one.dtype)
        dense = DensePlan(chunks, one)
        layer = (pool.keys[0], pool.values[0], one.key_width**-0.5)
        wanted = dense.attend(queries[: len(dense.places)], *layer)
        found = plan.attend(queries, *layer)[: len(wanted)]
        difference = (found.float() - wanted.float()).abs().max()
        worst = max(worst, float(difference) if bool(found.isfinite().all()) else float("inf"))
    return worst
