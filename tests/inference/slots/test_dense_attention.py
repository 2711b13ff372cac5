"""A plan's few dense calls give plain attention over each row's whole sequence."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atomthink_plugin.inference.slots.attention_kernel import plain_attention
from atomthink_plugin.inference.slots.dense_attention import DensePlan
from atomthink_plugin.inference.slots.pool import KvPool, PoolShape, TokenRun
from atomthink_plugin.inference.slots.row import Chunk, Row

CPU = torch.device("cpu")
WIDTH = 8


@dataclass(frozen=True)
class Made:
    """A row to be: which question it shares, tokens of its own, tokens that it reads, and whether it leaves a gap."""

    question: int
    length: int
    reads: int
    gap: bool


ROWS = st.lists(
    st.builds(Made, st.integers(0, 2), st.integers(0, 70), st.integers(1, 12), st.booleans()), min_size=1, max_size=12
)


@settings(max_examples=80)
@given(
    made=ROWS,
    questions=st.lists(st.integers(1, 90), min_size=3, max_size=3),
    heads=st.sampled_from([1, 2]),
    groups=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
def test_rows_attend_to_their_question_and_their_own_tokens(
    made: list[Made], questions: list[int], heads: int, groups: int, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    pool = KvPool(PoolShape(1, heads, WIDTH, WIDTH, torch.float32, CPU), 16384)
    pool.keys.normal_(generator=random)
    pool.values.normal_(generator=random)
    shared = [TokenRun(pool, pool.allocate(count), 0, count) for count in questions]
    chunks = []
    for one in made:
        if one.gap:
            pool.allocate(one.length + one.reads)
        own = pool.allocate(one.length + one.reads + 3)
        chunks.append(Chunk(Row(shared[one.question], own, one.length), [0] * one.reads))
    plan = DensePlan(chunks, pool.shape)
    compare(plan, pool, chunks, heads * groups, random)
    if all(one.reads == 1 for one in made):
        for _ in range(2):
            for chunk in chunks:
                chunk.row.length += 1
            plan.advance()
            compare(plan, pool, chunks, heads * groups, random)


def compare(plan: DensePlan, pool: KvPool, chunks: list[Chunk], query_heads: int, random: torch.Generator) -> None:
    """Compares what each token sees with attention over all keys before it, laid side by side."""
    queries = torch.randn(len(plan.places), query_heads, WIDTH, generator=random)
    got = plan.attend(queries, pool.keys[0], pool.values[0], 0.3)
    at = 0
    for chunk in chunks:
        row = chunk.row
        places = [*range(row.shared.start, row.shared.start + len(row.shared))]
        places += range(row.own.start, row.own.start + row.length)
        for turn in range(len(chunk.ids)):
            places.append(row.own.start + row.length + turn)
            assert int(plan.places[at]) == places[-1]
            keys, values = (
                half[0, places].transpose(0, 1).repeat_interleave(query_heads // half.shape[2], 0)[None]
                for half in (pool.keys, pool.values)
            )
            expected, _ = plain_attention(queries[at][None, :, None], keys, values, None, 0.3)
            assert torch.allclose(got[at], expected[0, :, 0], atol=1e-5)
            at += 1


def test_rows_that_advance_are_covered() -> None:
    """The property above rarely has rows of one token each only."""
    pool = KvPool(PoolShape(1, 2, WIDTH, WIDTH, torch.float32, CPU), 16384)
    random = torch.Generator().manual_seed(1)
    pool.keys.normal_(generator=random)
    pool.values.normal_(generator=random)
    shared = [TokenRun(pool, pool.allocate(count), 0, count) for count in (20, 33)]
    chunks = [Chunk(Row(shared[at % 2], pool.allocate(40 + at), 7 * at), [0]) for at in range(5)]
    plan = DensePlan(chunks, pool.shape)
    for _ in range(4):
        compare(plan, pool, chunks, 6, random)
        for chunk in chunks:
            chunk.row.length += 1
        plan.advance()
