"""A running batch whose steps are graphs, as on CUDA: rows join and leave, and the host follows a step behind."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from atomthink_plugin.api import Path
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.inference.decoding import GenerationRequest, PrefillDecoder
from atomthink_plugin.inference.sampling import Draw
from atomthink_plugin.inference.slots import reader, varlen_attention
from atomthink_plugin.inference.slots.decode_graph import DecodeGraph
from atomthink_plugin.inference.slots.decode_runner import DecodeRunner
from atomthink_plugin.inference.slots.generation import Generation
from atomthink_plugin.inference.slots.graph_capture import GraphMaker
from atomthink_plugin.inference.slots.plans import Plans
from atomthink_plugin.inference.slots.reader import SlotReader
from atomthink_plugin.inference.slots.running_batch import RunningBatch
from tests.inference.slots.flash_standin import flash
from tests.inference.slots.test_decode_runner import again
from tests.tiny_families import SLOTS, checkpoint, encoder
from tests.tiny_models import picture, question


class FlashPlans(Plans):
    """Plans for a stand-in of CUDA's kernel."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.varlen = True


@pytest.fixture(autouse=True)
def standin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(varlen_attention, "_FLASH", flash)
    monkeypatch.setattr(reader, "Plans", FlashPlans)
    with torch.inference_mode():
        yield


def requests_to(build: Any) -> list[GenerationRequest]:
    writes = encoder(build)
    asked = [question("How many?", picture(0), name="a"), question("Why? Say it in a word.", picture(1, (90, 40)))]
    prompts = [writes.encode(Continue().render(Path(one))) for one in asked]
    draws = [Draw(seed, 0.8, max_tokens=3 + 2 * seed, stops=("\n\n",)) for seed in range(4)]
    filtered = Draw(9, 0.9, top_k=7, top_p=0.9, tops=2, max_tokens=6, stops=("1", "a"))
    return [GenerationRequest(prompt, draw) for draw in (*draws, filtered) for prompt in prompts]


@pytest.mark.parametrize("build", SLOTS)
def test_they_give_the_samples_of_plain_prefill(build: Any) -> None:
    requests = requests_to(build)
    model = checkpoint(build)
    slots = SlotReader(model, 2**30, maker=GraphMaker(model.model, compiles=False, capture=again))
    runner = DecodeRunner(slots)
    batch = RunningBatch(model, slots, runner, lag=1)
    waiting = [Generation(request) for request in requests]
    all_of_them, done = list(waiting), {}
    while waiting or len(batch):
        joining, waiting = waiting[:3], waiting[3:]
        stepped = batch.step(joining)
        done.update(stepped.ended)
        assert not stepped.refused
        if not joining and len(batch):
            assert isinstance(batch._steps, DecodeGraph) or stepped.ended
    alone = PrefillDecoder(model)
    for sample in all_of_them:
        [expected] = alone.generate([sample.request])
        assert done[sample].completion.token_ids == expected.completion.token_ids
        assert done[sample].completion.logprob == pytest.approx(expected.completion.logprob, abs=1e-3)
    assert runner.graphs
    assert slots._graphs._graphs
