"""A decode step samples as `Sampler` does, without waiting for the device and without new shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from atomthink_plugin.inference.sampling import Draw, Sampler
from atomthink_plugin.inference.slots.decode_step import DecodeKind, DecodeState, RowStart, decode_step, sample

CPU = torch.device("cpu")
WORDS = 50
DRAWS = [
    Draw(3, 0.8, max_tokens=2),
    Draw(4, 0.0),
    Draw(2**63 - 1, 1.5, top_k=5, tops=2),
    Draw(6, 1.0, top_p=0.4, watch=(7, 1)),
    Draw(7, 0.7, top_k=9, top_p=0.8, watch=(3,)),
]


def state_of(draws: Sequence[Draw], marked: Sequence[int] = ()) -> DecodeState:
    marks = torch.zeros(1, WORDS, dtype=torch.bool)
    marks[0, list(marked)] = True
    return DecodeState.of([RowStart(draw, 10 + at, 0) for at, draw in enumerate(draws)], DecodeKind.of(draws), marks)


def logits_of(positions: torch.Tensor) -> torch.Tensor:
    rows = [torch.randn(WORDS, generator=torch.Generator().manual_seed(at)) * 2 for at in positions.tolist()]
    return torch.stack(rows)


class Recorder(TorchDispatchMode):
    """Records each operation with the shapes of what it returns."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, Any]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.seen.append((str(func), getattr(out, "shape", None)))
        return out


def test_rows_sample_what_the_sampler_samples_wherever_they_are_in_their_text() -> None:
    state = state_of(DRAWS)
    sampler = Sampler(DRAWS, CPU)
    sample(state, logits_of(state.positions))
    for step in range(1, 4):
        logits = logits_of(state.positions)
        decode_step(state, lambda ids, positions: logits_of(positions))
        chosen = sampler.noisy(logits, step).argmax(-1)
        assert torch.equal(state.ids, chosen)
        assert torch.equal(state.logprobs, sampler.logprobs(logits, chosen))
        assert state.drawn.tolist() == [step + 1] * len(DRAWS)


def test_rows_that_join_late_or_stay_longer_sample_the_same() -> None:
    alone = {}
    for at in range(len(DRAWS)):
        one = state_of(DRAWS).take(torch.tensor([at]), DecodeKind.of(DRAWS))
        tokens = []
        for _ in range(4):
            decode_step(one, lambda ids, positions: logits_of(positions))
            tokens.append(int(one.ids[0]))
        alone[at] = tokens
    state = state_of(DRAWS).take(torch.tensor([4, 0]), DecodeKind.of([DRAWS[4], DRAWS[0]]))
    got: dict[int, list[int]] = {4: [], 0: [], 2: [], 3: []}
    members = [4, 0]
    for step in range(4):
        if step == 1:
            kind = DecodeKind.of([DRAWS[0], DRAWS[3], DRAWS[2]])
            later = state_of(DRAWS).take(torch.tensor([3, 2]), kind)
            state, members = state.take(torch.tensor([1]), kind).joined(later), [0, 3, 2]
        decode_step(state, lambda ids, positions: logits_of(positions))
        for row, token in zip(members, state.ids.tolist(), strict=True):
            got[row].append(token)
    assert got == {4: alone[4][:1], 0: alone[0], 3: alone[3][:3], 2: alone[2][:3]}


@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_flags_rise_at_marked_tokens_and_at_the_limit(top_p: float) -> None:
    draws = [Draw(seed, 1.0, top_p=top_p, max_tokens=3) for seed in range(20)]
    state = state_of(draws, marked=range(0, WORDS, 3))
    sample(state, logits_of(state.positions))
    assert state.flags.tolist() == [int(token % 3 == 0) for token in state.ids.tolist()]
    assert {0, 1} == set(state.flags.tolist())
    decode_step(state, lambda ids, positions: logits_of(positions))
    decode_step(state, lambda ids, positions: logits_of(positions))
    assert state.flags.tolist() == [1] * 20


@pytest.mark.parametrize("draws", [DRAWS, DRAWS[:2], [DRAWS[1]] * 3])
def test_a_step_waits_for_nothing_and_keeps_its_shapes_and_places(draws: list[Draw]) -> None:
    state = state_of(draws)
    logits = logits_of(state.positions)
    places = [tensor.data_ptr() for tensor in (state.integers, state.floats, state.logprobs, state.watch)]
    runs = []
    for factor in (1.0, 30.0):  # the second has a nucleus of one token
        with Recorder() as recorder:
            decode_step(state, lambda ids, positions, factor=factor: logits * factor)
        runs.append(recorder.seen)
    waits = ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "unique", "equal.default")
    assert not [name for name, _ in runs[0] if any(wait in name for wait in waits)]
    assert runs[0] == runs[1]
    assert places == [tensor.data_ptr() for tensor in (state.integers, state.floats, state.logprobs, state.watch)]
