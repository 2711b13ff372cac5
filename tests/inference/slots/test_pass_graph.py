"""Passes over new tokens of several rows give the same logits as a graph as without one."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from atomthink_plugin.inference.sampling import Draw
from atomthink_plugin.inference.slots import varlen_attention
from atomthink_plugin.inference.slots.graph_capture import GraphMaker
from atomthink_plugin.inference.slots.row import Chunk
from tests.inference.slots.flash_standin import flash
from tests.inference.slots.running_rows import StartedRows
from tests.inference.slots.test_decode_runner import again, failing, idle
from tests.tiny_models import llava, loaded, qwen

DRAWS = [Draw(seed, 0.8, max_tokens=9) for seed in range(5)]
NEW = [(5, 6, 7), (8,), (9, 10), (11, 12, 13, 14), (15,)]


@pytest.fixture(autouse=True)
def standin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(varlen_attention, "_FLASH", flash)
    with torch.inference_mode():
        yield


def logits_of(build: Any, capture: Any, passes: list[list[int]]) -> tuple[list[torch.Tensor], StartedRows]:
    """Logits of passes over new tokens of some rows each, the last ones' only."""
    maker = None if capture is None else GraphMaker(loaded(build).model, compiles=False, capture=capture)
    made, found = StartedRows(loaded(build), DRAWS, maker), []
    for members in passes:
        chunks = [Chunk(made.rows[at], NEW[at]) for at in members]
        last = [sum(len(chunk.ids) for chunk in chunks[: at + 1]) - 1 for at in range(len(chunks))]
        found.append(made.reader.pass_over(chunks, last))
    return found, made


PASSES = [[3, 1, 0, 2], [1, 0, 4], [4, 1, 2, 3, 0]]


@pytest.mark.parametrize("build", [llava, qwen])
def test_one_graph_serves_passes_of_different_rows(build: Any) -> None:
    found, made = logits_of(build, again, PASSES)
    expected, _ = logits_of(build, None, PASSES)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert sorted(made.reader._graphs._graphs) == [8, 16]
    assert not made.reader.maker.failed


@pytest.mark.parametrize("capture", [failing, idle])
def test_a_capture_that_fails_or_does_something_else_is_not_used(
    capture: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found, _ = logits_of(llava, capture, PASSES)
    expected, _ = logits_of(llava, None, PASSES)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert len(caplog.records) == 1
