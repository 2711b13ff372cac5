"""The parts of the slots engine that only a GPU has. Without one these tests are skipped."""

from functools import cache
from typing import Any

import pytest
import torch

from atomthink_plugin.inference.checkpoints import Checkpoint, load_multimodal
from atomthink_plugin.inference.forward_passes import forward_passes
from atomthink_plugin.inference.sampling import Draw
from atomthink_plugin.inference.slots.decode_graph import DecodeGraph
from atomthink_plugin.inference.slots.decode_runner import DecodeRunner, EagerSteps
from atomthink_plugin.inference.slots.graph_capture import GraphMaker
from atomthink_plugin.inference.slots.pool import PoolShape
from atomthink_plugin.inference.slots.varlen_check import varlen_fault
from tests.inference.slots.running_rows import StartedRows, tokens_of
from tests.tiny_models import folder, llava, qwen

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

DRAWS = [Draw(seed, 0.8 * (seed % 3 > 0), max_tokens=9) for seed in range(5)]


@cache
def on_gpu(build: Any) -> Checkpoint:
    return load_multimodal(str(folder(build)), device="cuda", dtype="bfloat16")


@pytest.mark.parametrize(("heads", "width", "groups"), [(32, 128, 1), (4, 128, 7), (8, 64, 2), (2, 16, 2)])
def test_the_flash_kernel_does_what_it_should(heads: int, width: int, groups: int) -> None:
    shape = PoolShape(1, heads, width, width, torch.bfloat16, torch.device("cuda"))
    assert varlen_fault(shape, groups) is None


@pytest.mark.parametrize("compiles", [False, True])
@pytest.mark.parametrize("build", [llava, qwen])
def test_steps_are_captured_and_sample_the_same(build: Any, compiles: bool) -> None:
    checkpoint = on_gpu(build)
    with forward_passes(checkpoint):
        plain = StartedRows(checkpoint, DRAWS)
        expected = tokens_of(EagerSteps(plain.reader, plain.state, plain.rows), 3)
        maker = GraphMaker(checkpoint.model, compiles=compiles)
        made = StartedRows(checkpoint, DRAWS, maker)
        steps = DecodeRunner(made.reader).start(made.state, made.rows)
        assert isinstance(steps, DecodeGraph)
        assert made.reader.plans.varlen
        assert not maker.failed
        assert maker.layers.used == compiles
        found = tokens_of(steps, 3)
    # Of 15: in half precision a tie may go either way.
    assert int((torch.tensor(found) == torch.tensor(expected)).sum()) >= 12
