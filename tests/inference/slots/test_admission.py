"""Samples are those of plain prefill, whichever rows run beside them, come later, are evicted or fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch

from atomthink_plugin.api import Path
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.inference.decoding import GenerationOutput, GenerationRequest, PrefillDecoder
from atomthink_plugin.inference.model_calls import CannotForkError
from atomthink_plugin.inference.sampling import Draw
from atomthink_plugin.inference.slots.admission import Admission, RowLimit
from atomthink_plugin.inference.slots.allocator import UNIT, PoolFullError
from atomthink_plugin.inference.slots.decode_runner import DecodeRunner
from atomthink_plugin.inference.slots.generation import Generation
from atomthink_plugin.inference.slots.reader import SlotReader
from tests.tiny_families import SLOTS, checkpoint, encoder
from tests.tiny_models import chain, llava, loaded, paligemma, picture, question

ASKED = [
    question("How many?", picture(0), name="a"),
    question("What is two plus two plus one?", picture(1, (90, 40)), name="b"),
    question("Text alone: what is one plus one?", name="c"),
]
POISON = question("Say POISON.", name="p")


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def request(build: Any, path: Path, draw: Draw) -> GenerationRequest:
    return GenerationRequest(encoder(build).encode(Continue().render(path)), draw)


@cache
def requests_to(build: Any) -> list[GenerationRequest]:
    """Samples of all kinds and lengths of three questions, and of a step after one of them."""
    asked = [one for one in ASKED if one.images or build is not paligemma]  # it takes no text alone
    paths = [*map(Path, asked), chain(ASKED[0], "Step 1: Compute 1 + 1 = 2.")]
    writes = encoder(build)
    prompts = [writes.encode(Continue().render(path)) for path in paths]
    draws = [Draw(seed, 0.9, max_tokens=3 + 4 * seed, stops=("\n\n", "1")) for seed in range(3)]
    draws += [Draw(0, max_tokens=7), Draw(9, 1.1, top_k=9, top_p=0.8, tops=2, max_tokens=5, watch=(20, 30))]
    return [GenerationRequest(prompt, draw) for draw in draws for prompt in prompts]


@cache
def expected(build: Any) -> list[Any]:
    """What plain prefill gives to each of them alone."""
    decoder = PrefillDecoder(checkpoint(build))
    with torch.inference_mode():
        found = [result_of(decoder.generate([one])[0]) for one in requests_to(build)]
    return [(*done, pytest.approx(numbers, abs=1e-3)) for *done, numbers in found]


def result_of(output: GenerationOutput | Exception) -> tuple[Any, ...]:
    """What was generated, and all log-probabilities."""
    assert not isinstance(output, Exception), output
    done = output.completion
    numbers = [done.logprob, *done.watched, *(one for position in done.tops for one in position)]
    return done.text, done.token_ids, done.finish, done.generated, numbers


class Engine:
    """An admission of its own reader, and what it returned."""

    def __init__(self, build: Any, rows: int = 64, size: int | None = None, kept: int = 2**30) -> None:
        model = checkpoint(build)
        self.reader = SlotReader(model, kept, size)
        self.admission = Admission(model, self.reader, DecodeRunner(self.reader), RowLimit(rows))
        self.done: dict[Generation, GenerationOutput | Exception] = {}
        self.most = 0

    def run(self, waves: Sequence[Sequence[GenerationRequest]], turns: int = 2) -> list[GenerationOutput | Exception]:
        """Lets a wave of requests wait every few turns, and runs all to their ends."""
        samples: list[Generation] = []
        for wave in waves:
            new = [Generation(one) for one in wave]
            samples += new
            self.admission.add(new)
            for _ in range(turns):
                self.turn()
        while self.admission:
            self.turn()
        return [self.done[one] for one in samples]

    def turn(self) -> None:
        self.done.update(self.admission.turn())
        self.most = max(self.most, len(self.admission._batch))

    def assert_no_place_is_lost(self) -> None:
        self.reader.forget()
        allocator = self.reader.pool._allocator
        assert allocator._regions == [(0, allocator.size)]


@pytest.mark.parametrize("build", SLOTS)
@pytest.mark.parametrize("rows", [64, 5, 1])
def test_samples_are_those_of_plain_prefill(build: Any, rows: int) -> None:
    engine = Engine(build, rows)
    assert [result_of(one) for one in engine.run([requests_to(build)])] == expected(build)
    longer = sum(generated > 1 for *_, generated, _ in expected(build))  # the others join and leave in one turn
    assert engine.most == min(rows, longer)
    engine.assert_no_place_is_lost()


@pytest.mark.parametrize("turns", [1, 3])
@pytest.mark.parametrize("build", SLOTS)
def test_samples_that_join_a_running_batch_are_the_same(build: Any, turns: int) -> None:
    requests = requests_to(build)
    engine = Engine(build)
    engine.admission._worth = 0.0  # as on an accelerator
    waves = [requests[at : at + 3] for at in range(0, len(requests), 3)]
    assert [result_of(one) for one in engine.run(waves, turns)] == expected(build)
    engine.assert_no_place_is_lost()


def test_a_second_run_reads_what_is_new_and_gives_the_same() -> None:
    engine = Engine(llava)
    first = engine.run([requests_to(llava)])
    again = engine.run([requests_to(llava)])
    assert [result_of(one) for one in again] == expected(llava)
    for outputs, images in ((first, 2), (again, 0)):
        assert all(not isinstance(one, Exception) for one in outputs)
        assert sum(one.images for one in outputs) == images  # type: ignore[union-attr]
    read = [sum(one.prefilled for one in outputs) for outputs in (first, again)]  # type: ignore[union-attr]
    assert read[1] == 4 < read[0]  # the last token of each prompt
    for one, asked in zip(first, requests_to(llava), strict=True):
        assert one.prefilled + one.cached == asked.prompt.length  # type: ignore[union-attr]


@pytest.mark.parametrize("build", SLOTS)
@pytest.mark.parametrize("share", [1.7, 3.4])
def test_samples_wait_for_a_place_in_a_small_pool(build: Any, share: float) -> None:
    longest = max(one.prompt.length for one in requests_to(build))
    engine = Engine(build, size=int(share * longest) // UNIT * UNIT)
    assert [result_of(one) for one in engine.run([requests_to(build)])] == expected(build)
    assert 0 < engine.most < len(requests_to(build))
    engine.assert_no_place_is_lost()


@pytest.mark.parametrize("build", SLOTS)
def test_what_is_kept_stays_below_its_limit_and_is_read_again(build: Any) -> None:
    engine = Engine(build, rows=4, kept=1)
    assert [result_of(one) for one in engine.run([requests_to(build)] * 2)] == expected(build) * 2
    assert engine.reader.tree.size == 0


def test_a_sample_that_does_not_fit_alone_fails_and_the_others_do_not() -> None:
    requests = requests_to(llava)
    large = GenerationRequest(requests[0].prompt, Draw(0, max_tokens=400))
    *others, failed = Engine(llava, size=320).run([[*requests, large]])
    assert isinstance(failed, PoolFullError)
    assert str(large.prompt.length) in str(failed)
    assert "400" in str(failed)
    assert [result_of(one) for one in others] == expected(llava)


@contextmanager
def broken(build: Any, fails: Callable[[dict[str, Any]], bool], error: Exception) -> Iterator[None]:
    """Lets forward passes fail."""

    def check(module: Any, given: Any, named: dict[str, Any]) -> None:
        if fails(named):
            raise error

    handle = loaded(build).model.register_forward_pre_hook(check, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def keeps_all(named: dict[str, Any]) -> bool:
    """Whether a pass is that of a decode step, which needs the logits of all its tokens."""
    return isinstance(named["logits_to_keep"], int) and named["logits_to_keep"] == 0


def test_a_request_that_breaks_a_pass_fails_alone() -> None:
    requests = requests_to(llava)
    poison = request(llava, Path(POISON), Draw(1, max_tokens=4))
    (letter,) = loaded(llava).tokenizer.encode("Z", add_special_tokens=False)
    assert all(letter not in sampled for _, sampled, *_ in expected(llava))
    bad = GenerationRequest(poison.prompt.extend([letter]), poison.draw)
    engine = Engine(llava)
    engine.admission._worth = 0.0
    with broken(llava, lambda named: bool((named["input_ids"] == letter).any()), RuntimeError("misaligned address")):
        *others, failed = engine.run([requests[:7], requests[7:], [bad]], turns=1)
    assert isinstance(failed, RuntimeError)
    assert [result_of(one) for one in others] == expected(llava)
    engine.assert_no_place_is_lost()


def test_too_many_rows_for_the_memory_are_halved() -> None:
    engine = Engine(llava)
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    with broken(llava, lambda named: keeps_all(named) and named["input_ids"].numel() > 6, full):
        outputs = engine.run([requests_to(llava)])
    assert [result_of(one) for one in outputs] == expected(llava)
    assert engine.admission._limit.rows <= 6


def test_a_model_that_cannot_run_in_slots_fails_every_request_with_the_reason() -> None:
    with broken(llava, lambda named: True, CannotForkError("its attention has a mask of its own")):
        outputs = Engine(llava).run([requests_to(llava)])
    assert {type(one) for one in outputs} == {CannotForkError}


def test_cancelled_samples_leave_and_free_their_places() -> None:
    engine = Engine(llava, rows=12)
    samples = [Generation(one) for one in requests_to(llava)]
    engine.admission.add(samples)
    engine.turn()
    before = set(engine.done)
    for one in samples[::2]:
        one.cancelled = True
    engine.admission.cancel()
    while engine.admission:
        engine.turn()
    assert not (set(samples[::2]) - before) & engine.done.keys()
    assert [result_of(engine.done[one]) for one in samples[1::2]] == expected(llava)[1::2]
    engine.assert_no_place_is_lost()


def test_rows_that_wait_join_in_one_pass_with_the_running_ones() -> None:
    requests = [one for one in requests_to(llava) if one.draw.max_tokens > 5]
    engine = Engine(llava)
    engine.run([requests])  # prompts are known now
    passes: list[int] = []
    handle = loaded(llava).model.register_forward_pre_hook(
        lambda _, __, named: passes.append(named["input_ids"].numel()), with_kwargs=True
    )
    samples = [Generation(one) for one in requests]
    engine.admission.add(samples[:4])
    engine.turn()
    before = len(passes)
    engine.admission.add(samples[4:])
    engine.turn()
    handle.remove()
    assert len(passes) == before + 1
    assert len(engine.admission._batch) > 4
