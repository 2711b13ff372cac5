from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.inference.memory import out_of_memory
from atomthink_plugin.runtime.batcher import MicroBatcher
from atomthink_plugin.runtime.event_loop import run


def submit_all(batcher: MicroBatcher[int, int], items: Sequence[int]) -> list[int | BaseException]:
    async def main() -> list[int | BaseException]:
        return list(await asyncio.gather(*(batcher.submit(item) for item in items), return_exceptions=True))

    return asyncio.run(main())


@given(st.lists(st.integers(), max_size=40), st.integers(1, 12))
def test_every_item_gets_its_own_result_and_no_batch_is_too_large(items: list[int], limit: int) -> None:
    sizes: list[int] = []

    def double(batch: Sequence[int]) -> list[int]:
        sizes.append(len(batch))
        return [2 * item for item in batch]

    assert submit_all(MicroBatcher(double, limit), items) == [2 * item for item in items]
    assert max(sizes, default=0) <= limit
    assert len(sizes) == -(-len(items) // limit)  # all waiting items share a batch


def test_the_most_urgent_items_go_first_and_ties_keep_their_order() -> None:
    batches: list[list[int]] = []

    def keep(batch: Sequence[int]) -> list[int]:
        batches.append(list(batch))
        return list(batch)

    async def main() -> None:
        batcher = MicroBatcher(keep, 2)
        await asyncio.gather(*(batcher.submit(item, item // 10) for item in (1, 12, 2, 23, 11)))

    asyncio.run(main())
    assert batches == [[23, 12], [11, 1], [2]]


def test_questions_that_need_a_few_turns_to_arrive_still_share_a_batch() -> None:
    sizes: list[int] = []

    def run(batch: Sequence[int]) -> list[int]:
        sizes.append(len(batch))
        return list(batch)

    async def late(batcher: MicroBatcher[int, int], turns: int) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        return await batcher.submit(turns)

    async def main() -> None:
        batcher = MicroBatcher(run, 16)
        await asyncio.gather(*(late(batcher, turns) for turns in (0, 1, 2, 3)))

    asyncio.run(main())
    assert sizes == [4]


def test_items_that_arrive_during_a_batch_go_into_the_next_one() -> None:
    started, release = threading.Event(), threading.Event()
    sizes: list[int] = []

    def run(batch: Sequence[int]) -> list[int]:
        sizes.append(len(batch))
        started.set()
        assert release.wait(10)
        return list(batch)

    async def main() -> None:
        batcher = MicroBatcher(run, 16)
        first = asyncio.create_task(batcher.submit(0))
        await asyncio.to_thread(started.wait, 10)
        later = [asyncio.create_task(batcher.submit(i)) for i in range(5)]
        await asyncio.sleep(0)
        release.set()
        await asyncio.gather(first, *later)

    asyncio.run(main())
    assert sizes == [1, 5]


@given(st.lists(st.integers(0, 99), min_size=1, max_size=30, unique=True), st.data())
def test_only_the_item_that_breaks_its_batch_fails(items: list[int], data: st.DataObject) -> None:
    bad = data.draw(st.sampled_from(items))

    def run(batch: Sequence[int]) -> list[int]:
        if bad in batch:
            raise ValueError(f"cannot read {bad}")
        return [-item for item in batch]

    results = submit_all(MicroBatcher(run, 16), items)
    for item, result in zip(items, results, strict=True):
        if item == bad:
            assert isinstance(result, ValueError)
        else:
            assert result == -item


def test_out_of_memory_halves_all_later_batches_and_loses_nothing() -> None:
    sizes: list[int] = []

    def run(batch: Sequence[int]) -> list[int]:
        sizes.append(len(batch))
        if len(batch) > 3:
            raise MemoryError
        return list(batch)

    batcher = MicroBatcher(run, 16)
    assert submit_all(batcher, range(20)) == list(range(20))
    assert batcher.max_batch <= 3
    sizes.clear()
    assert submit_all(batcher, range(9)) == list(range(9))
    assert max(sizes) <= 3


def test_a_single_item_out_of_memory_is_retried_once() -> None:
    seen: list[int] = []

    def run(batch: Sequence[int]) -> list[int]:
        seen.extend(batch)
        if batch[0] == 2 or seen.count(batch[0]) == 1:
            raise MemoryError
        return list(batch)

    first, second = submit_all(MicroBatcher(run, 1), [1, 2])
    assert (first, type(second)) == (1, MemoryError)
    assert seen == [1, 1, 2, 2]


def test_out_of_memory_errors_of_torch_are_recognized() -> None:
    cpu = "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to"
    assert out_of_memory(RuntimeError(cpu))
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_the_memory_of_a_failed_batch_is_free_before_the_halves_run() -> None:
    class Tensor:
        pass

    kept: list[weakref.ref[Tensor]] = []

    def run(batch: Sequence[int]) -> list[int]:
        assert all(reference() is None for reference in kept)
        tensor = Tensor()
        kept.append(weakref.ref(tensor))
        if len(batch) > 1:
            raise MemoryError
        return list(batch)

    assert submit_all(MicroBatcher(run, 8), range(8)) == list(range(8))


def test_a_batcher_works_after_a_cancelled_run() -> None:
    batcher: MicroBatcher[int, int] = MicroBatcher(lambda batch: list(batch), 4)

    async def cut_off() -> None:
        left = asyncio.create_task(batcher.submit(1))
        await asyncio.sleep(0)
        raise KeyError(left.done())

    async def served() -> int:
        return await asyncio.wait_for(batcher.submit(2), 10)

    with pytest.raises(KeyError):
        run(cut_off())
    assert run(served()) == 2


def test_a_batch_function_that_loses_items_is_an_error() -> None:
    (result,) = submit_all(MicroBatcher(lambda batch: [], 4), [1])
    assert isinstance(result, RuntimeError)


def test_a_batcher_works_in_several_event_loops() -> None:
    batcher: MicroBatcher[int, int] = MicroBatcher(lambda batch: list(batch), 4)
    assert submit_all(batcher, [1, 2]) == [1, 2]
    assert submit_all(batcher, [3]) == [3]


def test_a_batch_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="max_batch must be at least 1, got 0"):
        MicroBatcher(lambda batch: list(batch), 0)


def test_an_item_whose_batch_exits_fails_alone() -> None:
    def exits(batch: Sequence[int]) -> list[int]:
        if 2 in batch:
            raise SystemExit(0)
        return list(batch)

    one, two, three = submit_all(MicroBatcher(exits, 8), [1, 2, 3])
    assert (one, three) == (1, 3)
    assert isinstance(two, Exception)
