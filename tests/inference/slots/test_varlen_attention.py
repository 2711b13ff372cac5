from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.inference.slots import varlen_attention
from atomthink_plugin.inference.slots.attention_kernel import plain_attention
from atomthink_plugin.inference.slots.dense_attention import DensePlan
from atomthink_plugin.inference.slots.pool import KvPool, PoolShape, TokenRun
from atomthink_plugin.inference.slots.row import Chunk, Row
from atomthink_plugin.inference.slots.varlen_attention import FixedVarlenPlan, VarlenPlan
from tests.inference.slots.flash_standin import flash

WIDTH = 8
SCALE = 0.3


@pytest.fixture(autouse=True)
def standin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(varlen_attention, "_FLASH", flash)


@pytest.fixture(scope="module")
def pool() -> KvPool:
    torch.manual_seed(0)
    made = KvPool(PoolShape(1, 2, WIDTH, WIDTH, torch.float32, torch.device("cpu")), 2**14)
    made.keys.normal_()
    made.values.normal_()
    return made


def rows_of(pool: KvPool, shared: Sequence[int], rows: Sequence[tuple[int, int]]) -> list[Row]:
    """Rows with these lengths of shared runs, each row by the number of its run and its own length."""
    runs = [TokenRun(pool, pool.allocate(length), 0, length) for length in shared]
    return [Row(runs[run % len(runs)], pool.allocate(length + 40), length) for run, length in rows]


def by_definition(pool: KvPool, chunk: Chunk, queries: torch.Tensor) -> torch.Tensor:
    """Attention of one row's new tokens over its shared run and its own tokens, one query at a time."""
    out = []
    for at, query in enumerate(queries):
        row, groups = chunk.row, queries.shape[1] // pool.shape.heads
        own = range(row.own.start, row.own.start + row.length + at + 1)
        places = [*range(row.shared.start, row.shared.start + len(row.shared)), *own]
        keys, values = (
            one[0, places].repeat_interleave(groups, 1).transpose(0, 1)[None] for one in (pool.keys, pool.values)
        )
        out.append(plain_attention(query[None, :, None], keys, values, None, SCALE)[0][0, :, 0])
    return torch.stack(out)


def expected(pool: KvPool, chunks: Sequence[Chunk], queries: torch.Tensor) -> torch.Tensor:
    parts = torch.split(queries, [len(chunk.ids) for chunk in chunks])
    return torch.cat([by_definition(pool, chunk, part) for chunk, part in zip(chunks, parts, strict=True)])


rows = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), min_size=1, max_size=9)
runs = st.lists(st.integers(1, 40), min_size=1, max_size=3)


@given(shared=runs, rows=rows, new=st.lists(st.integers(1, 7), min_size=9, max_size=9), groups=st.sampled_from([1, 3]))
def test_a_pass_attends_as_defined(pool: KvPool, shared: Any, rows: Any, new: list[int], groups: int) -> None:
    made = rows_of(pool, shared, rows)
    chunks = [Chunk(row, range(count)) for row, count in zip(made, new, strict=False)]
    queries = torch.randn(sum(len(chunk.ids) for chunk in chunks), 2 * groups, WIDTH)
    plan, dense = VarlenPlan(chunks, pool.shape, groups), DensePlan(chunks, pool.shape)
    out = plan.attend(queries, pool.keys[0], pool.values[0], SCALE)
    assert plan.places.tolist() == dense.places.tolist()
    torch.testing.assert_close(out, expected(pool, chunks, queries), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(out, dense.attend(queries, pool.keys[0], pool.values[0], SCALE), atol=1e-5, rtol=1e-4)
    free(pool, made)


@given(shared=runs, rows=rows, steps=st.integers(0, 5), groups=st.sampled_from([1, 3]))
def test_steps_follow_each_other(pool: KvPool, shared: Any, rows: Any, steps: int, groups: int) -> None:
    made = rows_of(pool, shared, rows)
    chunks = [Chunk(row, (0,)) for row in made]
    plan = VarlenPlan(chunks, pool.shape, groups)
    for _ in range(steps):
        plan.advance()
        for row in made:
            row.length += 1
    queries = torch.randn(len(chunks), 2 * groups, WIDTH)
    assert plan.places.tolist() == [row.own.start + row.length for row in made]
    out = plan.attend(queries, pool.keys[0], pool.values[0], SCALE)
    torch.testing.assert_close(out, expected(pool, chunks, queries), atol=1e-5, rtol=1e-4)
    free(pool, made)


@given(shared=runs, rows=rows, steps=st.integers(0, 5), groups=st.sampled_from([1, 3, 80, 200]))
def test_a_fixed_plan_serves_rows_of_any_number(pool: KvPool, shared: Any, rows: Any, steps: int, groups: int) -> None:
    spare = pool.allocate(1)
    plan = FixedVarlenPlan(10, spare.start, pool.shape, groups, longest=128)
    buffers = [plan.places, plan._own.seen, plan._shared.cuts, plan._shared.starts]
    held = [one.data_ptr() for one in buffers]
    first = rows_of(pool, [3], [(0, 1)])
    plan.load([Chunk(row, (0,)) for row in first])  # what was loaded before leaves no trace
    made = rows_of(pool, shared, sorted(rows, key=lambda row: row[0] % len(shared)))
    chunks = [Chunk(row, (0,)) for row in made]
    plan.load(chunks)
    for _ in range(steps):
        plan.advance()
        for row in made:
            row.length += 1
    assert [one.data_ptr() for one in buffers] == held
    assert plan.places.tolist() == [row.own.start + row.length for row in made] + [spare.start] * (10 - len(made))
    queries = torch.randn(10, 2 * groups, WIDTH)
    out = plan.attend(queries, pool.keys[0], pool.values[0], SCALE)
    torch.testing.assert_close(out[: len(made)], expected(pool, chunks, queries[: len(made)]), atol=1e-5, rtol=1e-4)
    assert out.isfinite().all()
    free(pool, [*made, *first])
    pool.release(spare)


@given(shared=runs, rows=rows, new=st.lists(st.integers(1, 7), min_size=9, max_size=9), groups=st.sampled_from([1, 3]))
def test_a_fixed_plan_serves_rows_that_read_several_tokens(
    pool: KvPool, shared: Any, rows: Any, new: list[int], groups: int
) -> None:
    spare = pool.allocate(1)
    made = rows_of(pool, shared, sorted(rows, key=lambda row: row[0] % len(shared)))
    chunks = [Chunk(row, range(count)) for row, count in zip(made, new, strict=False)]
    plan = FixedVarlenPlan(64, spare.start, pool.shape, groups, longest=128)
    plan.load(chunks)
    queries = torch.randn(64, 2 * groups, WIDTH)
    out = plan.attend(queries, pool.keys[0], pool.values[0], SCALE)
    used = sum(len(chunk.ids) for chunk in chunks)
    assert plan.places.tolist()[used:] == [spare.start] * (64 - used)
    torch.testing.assert_close(out[:used], expected(pool, chunks, queries[:used]), atol=1e-5, rtol=1e-4)
    free(pool, made)
    pool.release(spare)


def test_a_fixed_plan_refuses_what_it_cannot_hold(pool: KvPool) -> None:
    spare = pool.allocate(1)
    plan = FixedVarlenPlan(2, spare.start, pool.shape, 1, longest=128)
    made = rows_of(pool, [3, 4], [(0, 1), (1, 1), (0, 1)])
    with pytest.raises(ValueError, match="3 tokens"):
        plan.load([Chunk(row, (0,)) for row in made])
    scattered = FixedVarlenPlan(4, spare.start, pool.shape, 1, longest=128)
    with pytest.raises(ValueError, match="3 tokens"):
        scattered.load([Chunk(row, (0,)) for row in made])
    free(pool, made)
    pool.release(spare)


def free(pool: KvPool, rows: Sequence[Row]) -> None:
    for row in rows:
        pool.release(row.own)
    for run in {id(row.shared): row.shared for row in rows}.values():
        run.release()
