"""Forward passes over few new tokens as CUDA graphs: to launch their kernels takes longer than to run them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

import torch

from atomthink_plugin.inference.slots.attention import AttentionPlan
from atomthink_plugin.inference.slots.graph_capture import RECORDING, GraphError, GraphMaker, bucket_of
from atomthink_plugin.inference.slots.plans import Plans
from atomthink_plugin.inference.slots.pool import KvPool
from atomthink_plugin.inference.slots.row import Chunk
from atomthink_plugin.inference.slots.transfers import sent
from atomthink_plugin.inference.slots.varlen_attention import by_prefix

ForwardPass = Callable[[AttentionPlan, torch.Tensor, torch.Tensor], torch.Tensor]
"""Maps a plan, ids and positions to the logits after each token."""


class PassGraph:
    """A forward pass over up to `size` new tokens.

    Args:
        forward: The model.
        plans: Plans its attention.
        pool: Its keys and values.
        size: Tokens of the pass.
        maker: Makes the graph.
    """

    def __init__(self, forward: ForwardPass, plans: Plans, pool: KvPool, size: int, maker: GraphMaker) -> None:
        self._forward, self._maker, self._size = forward, maker, size
        self._plan = plans.fixed(size, maker.spare(pool), pool.keys.shape[1])
        self._inputs = torch.zeros(2, size, dtype=torch.int64, device=pool.shape.device)
        self._logits: torch.Tensor | None = None
        self._replay: Callable[[], None] | None = None

    def run(
        self, chunks: Sequence[Chunk], ids: torch.Tensor, positions: torch.Tensor, wanted: torch.Tensor
    ) -> torch.Tensor:
        """Reads chunks in one pass; see `SlotReader.run`.

        Raises:
            GraphError: A new graph computes other logits than the pass without it.
        """
        order = by_prefix(chunks)
        begins = [0, *accumulate(len(chunk.ids) for chunk in chunks)]
        moved = torch.tensor([token for at in order for token in range(begins[at], begins[at + 1])])
        taken, back = (sent(one, ids.device) for one in (moved, torch.argsort(moved)))
        self._inputs[0, : len(ids)].copy_(ids.index_select(0, taken))
        self._inputs[1, : len(ids)].copy_(positions.index_select(0, taken))
        self._plan.load([chunks[at] for at in order])
        if self._replay is None:
            self._replay = self._recorded()
        self._replay()
        assert self._logits is not None
        return self._logits.index_select(0, back.index_select(0, wanted))

    def _recorded(self) -> Callable[[], None]:
        """Returns what runs the captured pass, after a trial with what is loaded."""
        with RECORDING, self._maker.layers.context(self._run):
            expected = self._run()
            replay = self._maker.capture(self._work, lambda: None)
        replay()
        near = float(expected.abs().max()) / 16
        if self._logits is None or not torch.allclose(self._logits, expected, rtol=0.0, atol=near):
            raise GraphError("a captured forward pass gives other logits")
        return replay

    def _work(self) -> None:
        self._logits = self._run()

    def _run(self) -> torch.Tensor:
        return self._forward(self._plan, self._inputs[0], self._inputs[1])


class PassGraphs:
    """The graphs of one model's forward passes, by their number of tokens.

    Args:
        forward: The model.
        maker: Makes the graphs.
    """

    def __init__(self, forward: ForwardPass, maker: GraphMaker) -> None:
        self._forward, self._maker = forward, maker
        self._graphs: dict[int, PassGraph] = {}
        self._keys: torch.Tensor | None = None

    def find(self, tokens: int, plans: Plans, pool: KvPool) -> PassGraph | None:
        """Returns a graph for so many tokens, None where there is none. Graphs end when the pool moves.

        Args:
            tokens: New tokens of the pass.
            plans: Plans the attention.
            pool: Keys and values.
        """
        size = bucket_of(tokens)
        if self._maker.failed or size is None or not plans.varlen:
            return None
        if pool.keys is not self._keys:
            self._graphs.clear()
            self._keys = pool.keys
        if size not in self._graphs:
            self._graphs[size] = PassGraph(self._forward, plans, pool, size, self._maker)
        return self._graphs[size]
