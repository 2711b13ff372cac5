"""Samples share a row exactly as long as they have sampled the same tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.api import Path
from atomthink_plugin.inference.decoding import GenerationRequest
from atomthink_plugin.inference.sampling import Draw
from atomthink_plugin.inference.slots.generation import Generation, diverge, hand_over, row_of, shared_rows
from atomthink_plugin.inference.slots.reader import SlotReader
from tests.inference.slots.test_admission import ASKED, Engine, chain, request, result_of
from tests.inference.slots.test_admission import inference as inference
from tests.tiny_models import llava

DRAWS = [
    *(Draw(seed, max_tokens=most) for seed, most in enumerate((3, 9, 12, 12))),
    *(Draw(seed, 0.3, max_tokens=12) for seed in range(3)),
    Draw(7, 1.5, max_tokens=12),
]
"""Four greedy ones, of which the first ends early, some that leave them, and one that does so at once."""


class Tokens:
    """A row that knows its tokens."""

    def __init__(self) -> None:
        self.tokens: list[int] = []


class Copies:
    """Stands for a reader: copies tokens from row to row."""

    def copy(self, row: Tokens, twin: Tokens) -> None:
        twin.tokens = [*row.tokens]


@given(st.integers(1, 6), st.lists(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), min_size=6, max_size=6)))
def test_a_row_has_the_tokens_of_all_samples_that_share_it(count: int, steps: list[list[tuple[int, int]]]) -> None:
    samples = [Generation(cast(Any, None)) for _ in range(count)]
    for one in samples:
        one.row, one.follows = cast(Any, Tokens()), None if one is samples[0] else samples[0]
    rows = {row_of(one) for one in samples}
    for step in steps:
        for one, (token, _) in zip(samples, step, strict=False):
            one.ids.append(token)
        leaving = {one for one, (_, leaves) in zip(samples, step, strict=False) if leaves == 0}
        hand_over(leaving, samples)
        rows -= {row_of(one) for one in leaving}
        samples = [one for one in samples if one not in leaving]
        diverge(samples, cast(SlotReader, Copies()))
        holders, sources = shared_rows(samples)
        for one in holders:
            cast(Any, row_of(one)).tokens.append(one.ids[-1])
        for one, source in zip(samples, sources, strict=True):
            assert cast(Any, row_of(holders[source])).tokens == one.ids
        assert len(holders) == len({tuple(one.ids) for one in samples})
        assert {row_of(one) for one in samples} == rows


@pytest.fixture(scope="module")
def asked() -> Iterator[list[GenerationRequest]]:
    paths = [chain(ASKED[0], "Step 1: Compute 1 + 1 = 2."), chain(ASKED[2], "Step 1: Add.")]
    with torch.inference_mode():
        yield [request(llava, path, draw) for draw in DRAWS for path in paths]


def test_equal_samples_are_read_once_and_are_those_of_batches_of_their_own(asked: list[GenerationRequest]) -> None:
    engine = Engine(llava)
    read: list[int] = []
    forward = engine.reader.forward

    def counted(plan: Any, ids: torch.Tensor, *args: Any) -> torch.Tensor:
        read.append(len(ids))
        return forward(plan, ids, *args)

    engine.reader.forward = counted  # type: ignore[method-assign]
    found = [result_of(one) for one in engine.run([asked])]
    alone = [result_of(Engine(llava).run([[one]])[0]) for one in asked]
    assert found == [(*done, pytest.approx(numbers, abs=1e-3)) for *done, numbers in alone]
    sequences = [
        {(at % 2, one[1][:length]) for at, one in enumerate(found) if len(one[1]) > length} for length in range(1, 12)
    ]
    assert read[-11:] == [len(distinct) for distinct in sequences]
    engine.assert_no_place_is_lost()


def test_what_follows_a_sample_that_ends_in_the_row_of_another_one_reads_the_right_states() -> None:
    """The first one goes on with another draw; the second one's only token is kept from its row."""
    path = Path(ASKED[0])
    first = request(llava, path, Draw(0, max_tokens=8))
    engine = Engine(llava)
    _, ended = engine.run([[first, request(llava, path, Draw(1, max_tokens=3))]])
    ids = result_of(ended)[1]
    assert ids == result_of(Engine(llava).run([[first]])[0])[1][:3]
    later = replace(first, prompt=first.prompt.extend([*ids, *ids[:1]]))
    found, expected = (result_of(one.run([[later]])[0]) for one in (engine, Engine(llava)))
    assert found == (*expected[:-1], pytest.approx(expected[-1], abs=1e-3))


@pytest.mark.parametrize("leaves", [0, 2, 6])
def test_samples_keep_their_row_if_the_first_of_them_is_cancelled(asked: list[GenerationRequest], leaves: int) -> None:
    engine = Engine(llava)
    samples = [Generation(one) for one in asked]
    engine.admission.add(samples)
    engine.turn()
    engine.turn()
    samples[leaves].cancelled = True
    engine.admission.cancel()
    while engine.admission:
        engine.turn()
    expected = [result_of(one) for one in Engine(llava).run([asked])]
    found = {at: result_of(engine.done[one]) for at, one in enumerate(samples) if one in engine.done}
    assert found == {
        at: (*done, pytest.approx(numbers, abs=1e-3)) for at, (*done, numbers) in enumerate(expected) if at != leaves
    }
    engine.assert_no_place_is_lost()
