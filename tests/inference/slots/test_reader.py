"""Prompts read from the pool have the logits of a plain forward pass, whatever was read, evicted or shared before."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atomthink_plugin.inference.checkpoints import Checkpoint, load_text_prm
from atomthink_plugin.inference.encoding import Encoding, text_encoding
from atomthink_plugin.inference.forward_passes import forward_passes
from atomthink_plugin.inference.slots.allocator import PoolFullError
from atomthink_plugin.inference.slots.pool import TokenRun
from atomthink_plugin.inference.slots.reader import SlotReader
from tests.tiny_models import causal_prm, folder

WORDS = 30
TOKEN = st.integers(3, WORDS - 1)
QUESTIONS = st.lists(st.lists(TOKEN, min_size=1, max_size=40), min_size=1, max_size=3)
"""Questions begin alike: their first tokens are `COMMON`."""

COMMON = list(range(3, 23))
STEPS = st.lists(st.tuples(st.integers(0, 2), st.lists(TOKEN, max_size=6), TOKEN), min_size=1, max_size=6)
"""Prompts of one batch: the question's number, the tokens of earlier steps and of the last one."""


@cache
def prm() -> Checkpoint:
    return load_text_prm(str(folder(causal_prm)), device="cpu")


def plain(prompt: Encoding, bound: int) -> torch.Tensor:
    with torch.inference_mode():
        return prm().model(**prompt.tokens).logits[0, bound:]


def read(reader: SlotReader, prompts: Sequence[Encoding], known: Sequence[int]) -> list[torch.Tensor]:
    with forward_passes(prm()), reader.bounded():
        return reader.read(prompts, known).logits


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(QUESTIONS, st.lists(STEPS, min_size=1, max_size=5), st.sampled_from([None, 256, 512]), st.integers(0, 2**16))
def test_logits_are_those_of_a_plain_forward_pass(
    questions: list[list[int]],
    batches: list[list[tuple[int, list[int], int]]],
    size: int | None,
    limit: int,
) -> None:
    reader = SlotReader(prm(), limit, size)
    asked = [text_encoding([*COMMON, *question, 5]) for question in questions]
    for batch in batches:
        prompts = [asked[number % len(asked)].extend([*earlier, 7, last]) for number, earlier, last in batch]
        known = [prompt.length - 1 for prompt in prompts]
        for prompt, bound, logits in zip(prompts, known, read(reader, prompts, known), strict=True):
            torch.testing.assert_close(logits, plain(prompt, bound), atol=1e-5, rtol=1e-5)
    assert reader.pool.used_bytes >= reader.tree.size
    reader.forget()
    assert reader.pool.used_bytes == 0


@torch.inference_mode()
def test_a_later_question_with_the_same_beginning_is_shared_as_a_whole() -> None:
    reader = SlotReader(prm(), 2**30)
    first, second = (text_encoding([*COMMON, *([word] * 50)]) for word in (24, 25))
    for asked in (first, second):
        read(reader, [asked.extend([5, 6])], [asked.length + 1])
    prompt = second.extend([5, 6, 8])
    row, rest = reader.start(prompt, prompt.length - 1, 0)
    assert len(row.shared) == second.length
    assert (row.length, list(rest)) == (2, [8])
    reader.release(row)


def test_a_prompt_larger_than_the_pool_is_refused() -> None:
    reader = SlotReader(prm(), 2**30, 64)
    with pytest.raises(PoolFullError):
        read(reader, [text_encoding(COMMON * 5)], [10])
    reader.forget()
    assert reader.pool.used_bytes == 0


@torch.inference_mode()
def test_places_are_free_once_nobody_holds_them() -> None:
    reader = SlotReader(prm(), 2**30)
    asked = text_encoding(COMMON)
    read(reader, [asked], [10])
    row, _ = reader.start(asked.extend([4]), asked.length, 10)
    twin = reader.fork(row, 20)
    reader.copy(row, twin)
    held = row.shared.extent
    reader.forget()
    assert held.users == 2
    reader.release(row)
    reader.release(twin)
    assert held.users == 0
    assert isinstance(row.shared, TokenRun)
    assert reader.pool.used_bytes == 0
