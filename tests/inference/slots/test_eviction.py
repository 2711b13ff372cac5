"""In a pool too small for all questions, samples stay the same, and no question is read more often than it must be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from atomthink_plugin.api import Path
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.inference.decoding import GenerationOutput, GenerationRequest
from atomthink_plugin.inference.encoding import Encoding
from atomthink_plugin.inference.sampling import Draw
from atomthink_plugin.inference.slots.allocator import UNIT, PoolFullError
from tests.inference.slots.test_admission import Engine
from tests.tiny_families import checkpoint, encoder, internvl
from tests.tiny_models import llava, picture, question

LEVELS = 3
SAMPLES = 6


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def prompts(build: Any, count: int) -> list[Encoding]:
    writes = encoder(build)
    asked = [question(f"Question {at}: how many?", picture(at), name=str(at)) for at in range(count)]
    return [writes.encode(Continue().render(Path(one))) for one in asked]


@contextmanager
def tokens_read(build: Any) -> Iterator[list[int]]:
    """The tokens of each forward pass inside."""
    passes: list[int] = []
    handle = checkpoint(build).model.register_forward_pre_hook(
        lambda _, __, named: passes.append(named["input_ids"].numel()), with_kwargs=True
    )
    try:
        yield passes
    finally:
        handle.remove()


def sampled(engine: Engine, level: list[Encoding]) -> list[tuple[int, ...]]:
    """Samples steps of several questions at the same time, and goes on from two steps of each."""
    drawn: list[tuple[int, ...]] = []
    for depth in range(LEVELS):
        each = SAMPLES if depth == 0 else SAMPLES // 2
        requests = [
            GenerationRequest(path, Draw(100 * depth + seed, 0.9, max_tokens=12))
            for path in level
            for seed in range(each)
        ]
        steps = []
        for output in engine.run([requests]):
            assert isinstance(output, GenerationOutput), output
            steps.append(output.completion.token_ids)
        drawn += steps
        kept = [at for at in range(len(steps)) if at % each < (2 if depth == 0 else 1)]
        level = [requests[at].prompt.extend(steps[at]) for at in kept]
    return drawn


@pytest.mark.parametrize(("build", "count", "share"), [(llava, 2, 3.0), (internvl, 3, 1.8), (llava, 5, 4.0)])
def test_a_search_in_a_small_pool_reads_each_question_about_once_per_level(
    build: Any, count: int, share: float
) -> None:
    asked = prompts(build, count)
    longest = max(one.length for one in asked)
    roomy, small = Engine(build), Engine(build, size=int(share * longest) // UNIT * UNIT)
    with tokens_read(build) as least:
        expected = sampled(roomy, asked)
    with tokens_read(build) as found:
        assert sampled(small, asked) == expected
    assert sum(found) < (LEVELS + 1) * sum(least)
    small.assert_no_place_is_lost()


def test_what_a_row_holds_is_not_dropped() -> None:
    (asked,) = prompts(llava, 1)
    reader = Engine(llava, size=4 * asked.length // UNIT * UNIT).reader
    reader.prepare([asked], [asked.length - 1])
    row, _ = reader.start(asked, asked.length - 1, 8)
    for _ in range(2):
        with pytest.raises(PoolFullError):
            reader.pool.allocate(4 * asked.length)
        assert reader.tree.known(asked.root, asked.ids) >= asked.length - 1
        reader.fork(row, 8)  # its twin stays
    reader.release(row)
    assert reader.tree.known(asked.root, asked.ids) >= asked.length - 1
