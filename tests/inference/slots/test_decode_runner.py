"""Batches run the same steps with a graph as without; a stand-in for CUDA's graphs repeats the captured work."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from atomthink_plugin.inference.sampling import Draw
from atomthink_plugin.inference.slots import varlen_attention
from atomthink_plugin.inference.slots.decode_graph import DecodeGraph
from atomthink_plugin.inference.slots.decode_runner import DecodeRunner, EagerSteps
from atomthink_plugin.inference.slots.graph_capture import GraphMaker
from tests.inference.slots.flash_standin import flash
from tests.inference.slots.running_rows import StartedRows, tokens_of
from tests.tiny_models import llava, loaded, qwen

Work = Callable[[], None]
DRAWS = [Draw(seed, 0.8 * (seed % 3 > 0), tops=seed % 2, max_tokens=9) for seed in range(5)]


def again(work: Work, undo: Work) -> Work:
    work()
    undo()
    return work


@pytest.fixture(autouse=True)
def standin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(varlen_attention, "_FLASH", flash)
    with torch.inference_mode():
        yield


def graphed(build: Any, capture: Any = again, compiles: bool = False) -> tuple[StartedRows, DecodeRunner]:
    maker = GraphMaker(loaded(build).model, compiles=compiles, capture=capture)
    made = StartedRows(loaded(build), DRAWS, maker)
    return made, DecodeRunner(made.reader)


def eager(build: Any, members: list[int], steps: int) -> list[list[int]]:
    made = StartedRows(loaded(build), DRAWS)
    return tokens_of(EagerSteps(made.reader, *made.take(members, made.state)), steps)


@pytest.mark.parametrize("build", [llava, qwen])
def test_a_graph_serves_rows_that_come_and_go(build: Any) -> None:
    made, starter = graphed(build)
    state, rows = made.take([3, 0, 2, 1], made.state)
    batch = starter.start(state, rows)
    assert isinstance(batch, DecodeGraph)
    together = eager(build, [3, 0, 2, 1], 5)
    assert tokens_of(batch, 2) == together[:2]
    for row in rows:
        row.length += 2
    # Row 3 leaves and row 4 joins: it is two tokens behind.
    later = batch.state().take(torch.tensor([1, 2, 3]), state.kind).joined(made.take([4], made.state)[0])
    batch = starter.start(later, [*rows[1:], made.rows[4]])
    steps = tokens_of(batch, 3)
    assert [step[:3] for step in steps] == [step[1:] for step in together[2:]]
    assert [step[3:] for step in steps] == eager(build, [4], 3)
    assert len(starter.graphs) == 1


def test_a_pool_that_moves_and_another_table_of_stops_end_the_graphs() -> None:
    made, starter = graphed(llava)
    starter.start(made.state, made.rows)
    first = list(starter.graphs.values())
    made.reader.pool._grow(16)
    batch = starter.start(made.state, made.rows)
    second = list(starter.graphs.values())
    assert tokens_of(batch, 3) == eager(llava, [0, 1, 2, 3, 4], 3)
    made.state.marks = made.state.marks.clone()
    starter.start(made.state, made.rows)
    assert len({id(one) for one in (*first, *second, *starter.graphs.values())}) == 3


def test_more_rows_than_any_graph_has_run_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atomthink_plugin.inference.slots.graph_capture.BUCKETS", (2, 4))
    made, starter = graphed(llava)
    assert isinstance(starter.start(made.state, made.rows), EagerSteps)
    assert isinstance(starter.start(*made.take([0, 1, 2], made.state)), DecodeGraph)
    assert [bucket for bucket, _ in starter.graphs] == [4]


def failing(work: Work, undo: Work) -> Work:
    raise RuntimeError("operation not permitted when stream is capturing")


def idle(work: Work, undo: Work) -> Work:
    return lambda: None


@pytest.mark.parametrize("capture", [failing, idle])
def test_steps_run_without_graphs_if_a_capture_fails_or_does_something_else(
    capture: Any, caplog: pytest.LogCaptureFixture
) -> None:
    made, starter = graphed(llava, capture)
    with caplog.at_level(logging.WARNING):
        batches = [starter.start(made.state, made.rows) for _ in range(2)]
    assert all(isinstance(batch, EagerSteps) for batch in batches)
    assert len(caplog.records) == 1
    assert tokens_of(batches[1], 3) == eager(llava, [0, 1, 2, 3, 4], 3)


def test_equal_layers_are_compiled_once_and_only_for_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    counter, compiling = CompileCounter(), torch.compile
    monkeypatch.setattr(torch, "compile", lambda *given, **named: compiling(*given, **named, backend=counter))
    monkeypatch.setattr("atomthink_plugin.inference.slots.graph_capture.BUCKETS", (2, 4, 8))
    made, starter = graphed(qwen, compiles=True)
    starter.start(*made.take([0, 1], made.state))
    assert 0 < counter.frame_count < 3 * len(loaded(qwen).model.get_decoder().layers)
    starter.start(*made.take([0, 1, 2], made.state))
    frames = counter.frame_count  # the second number of rows, from which on the code is for any number
    batch = starter.start(made.state, made.rows)
    assert len(starter.graphs) == 3
    assert counter.frame_count == frames
    assert tokens_of(batch, 2) == eager(qwen, [0, 1, 2, 3, 4], 2)
    assert counter.frame_count == frames
    assert all(layer._compiled_call_impl is None for layer in loaded(qwen).model.get_decoder().layers)


@pytest.mark.parametrize("wrong", ["fails", "differs"])
def test_layers_are_not_compiled_if_that_fails_or_changes_the_logits(
    wrong: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def compiled(called: Any) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            if wrong == "fails":
                raise RuntimeError("no C compiler")
            return called(*given, **named) * -1

        return call

    monkeypatch.setattr(torch, "compile", compiled)
    made, starter = graphed(qwen, compiles=True)
    with caplog.at_level(logging.WARNING):
        batch = starter.start(made.state, made.rows)
        starter.start(*made.take([0, 1], made.state))
    assert isinstance(batch, DecodeGraph)
    assert len(caplog.records) == 1
    assert tokens_of(starter.start(made.state, made.rows), 3) == eager(qwen, [0, 1, 2, 3, 4], 3)
