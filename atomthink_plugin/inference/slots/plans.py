"""Which kernel a model's attention uses in the slots engine."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from atomthink_plugin.inference.slots.attention import AttentionPlan
from atomthink_plugin.inference.slots.dense_attention import DensePlan
from atomthink_plugin.inference.slots.pool import PoolShape
from atomthink_plugin.inference.slots.row import Chunk
from atomthink_plugin.inference.slots.varlen_attention import FixedVarlenPlan, VarlenPlan
from atomthink_plugin.inference.slots.varlen_check import varlen_fault

log = logging.getLogger(__name__)


class Plans:
    """Plans forward passes: on CUDA with its flash kernel, if that passes a check, and elsewhere in dense calls.

    Attributes:
        varlen: Whether the flash kernel is used.

    Args:
        shape: Of the pool.
        query_heads: Heads of the model's queries; None if its config does not state them.
    """

    def __init__(self, shape: PoolShape, query_heads: int | None) -> None:
        self._shape, self._groups = shape, (query_heads or 0) // shape.heads
        self.varlen = False
        if shape.device.type == "cuda":
            fault = varlen_fault(shape, self._groups) if self._groups else "its config states no query heads"
            self.varlen = fault is None
            if fault is not None:
                log.warning("dense attention instead of torch's flash kernel, which is faster: %s", fault)

    def of(self, chunks: Sequence[Chunk]) -> AttentionPlan:
        """Returns the plan of one forward pass."""
        if self.varlen:
            return VarlenPlan(chunks, self._shape, self._groups)
        return DensePlan(chunks, self._shape)

    def fixed(self, rows: int, spare: int, longest: int) -> FixedVarlenPlan:
        """Returns a plan that a captured graph can use, where the flash kernel is used.

        Args:
            rows: Rows of each decode step.
            spare: Place of rows that are not in use.
            longest: Tokens of a shared or own part at most.
        """
        return FixedVarlenPlan(rows, spare, self._shape, self._groups, longest)
