"""A model that runs out of memory, now and then in the middle of a step, gives what it gives with plenty of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch

from atomthink_plugin.api import Outcome, Path, Result, Sampling
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.inference.prefix_cache.tree import PrefixTree
from atomthink_plugin.inference.slots.attention import PassThroughCache
from atomthink_plugin.model_adapters.transformers_policy import TransformersPolicy
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.runtime.settings import Settings
from atomthink_plugin.scorers.prm_likelihood import LikelihoodPrm, prm_likelihood
from atomthink_plugin.searches.beam import beam
from tests.model_adapters.test_transformers_policy import QUESTIONS, grow
from tests.scorers.shared import PATHS
from tests.scorers.test_prefix_cache import judge
from tests.tiny_models import folder, llava, loaded, qwen

CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to")


@dataclass
class Refused:
    """How often memory ran out: when prompts were read, and between two tokens."""

    reading: int = 0
    decoding: int = 0


@contextmanager
def limited(model: Any, full: Callable[[int, int], bool], error: Exception = CUDA) -> Iterator[Refused]:
    """Lets a forward pass raise what allocators raise; `full` is asked with its rows and the tokens of the longest."""
    refused = Refused()

    def allocate(module: Any, given: Any, named: dict[str, Any]) -> None:
        rows, new = named["input_ids"].shape
        cache = named.get("cache", named.get("past_key_values"))
        known = 0 if cache is None else cache.get_seq_length()
        tokens, decodes = new + known, known > 0 and new == 1
        if isinstance(cache, PassThroughCache):  # all rows in one, those that decode with a token each
            positions, keep = named["position_ids"].flatten()[-new:], named["logits_to_keep"]
            decodes = not isinstance(keep, torch.Tensor)
            rows = new if decodes else 1 + int((positions.diff() != 1).sum())
            tokens = int(positions.max()) + 1
        if full(rows, tokens):
            refused.decoding += decodes
            refused.reading += not decodes
            raise type(error)(*error.args)

    handle = model.register_forward_pre_hook(allocate, with_kwargs=True)
    try:
        yield refused
    finally:
        handle.remove()


def nodes_of(tree: PrefixTree) -> list[Any]:
    nodes: list[Any] = list(tree._roots.values())
    for node in nodes:
        nodes += node.children.values()
    return nodes


def tree_of(policy: TransformersPolicy) -> PrefixTree:
    tree: PrefixTree = policy._decoder._reader.tree  # type: ignore[attr-defined]
    return tree


@cache
def row_by_row(build: Any, cache_gib: float = 4) -> list[Any]:
    """The samples of a policy that has memory enough."""
    paths = [Path(asked) for asked in QUESTIONS]
    return grow(TransformersPolicy(loaded(build), batch_size=1, cache_gib=cache_gib), Continue(), paths, 3)[0]


@pytest.mark.slow
@pytest.mark.parametrize("build", [llava, qwen])
@pytest.mark.parametrize("cache_gib", [4, 0])
@pytest.mark.parametrize("error", [CUDA, CPU])
def test_samples_are_the_same_where_few_rows_fit(build: Any, cache_gib: float, error: Exception) -> None:
    paths = [Path(asked) for asked in QUESTIONS]
    expected = row_by_row(build, cache_gib)
    policy = TransformersPolicy(loaded(build), batch_size=32, cache_gib=cache_gib)
    with limited(loaded(build).model, lambda rows, tokens: rows > 2, error) as refused:
        samples, _ = grow(policy, Continue(), paths, 3)
    assert [ids for ids, _ in samples] == [ids for ids, _ in expected]
    assert refused.reading + refused.decoding > 0
    assert policy.max_rows <= 2 * 2


@pytest.mark.slow
@pytest.mark.parametrize("build", [llava, qwen])
def test_memory_that_runs_out_between_two_tokens_costs_nothing_but_time(build: Any) -> None:
    paths = [Path(asked) for asked in QUESTIONS]
    expected = row_by_row(build)
    policy = TransformersPolicy(loaded(build), batch_size=12)
    with limited(loaded(build).model, lambda rows, tokens: rows * tokens > 330) as refused:
        samples, _ = grow(policy, Continue(), paths, 3)
    assert [ids for ids, _ in samples] == [ids for ids, _ in expected]
    assert refused.decoding > 0


def test_a_fault_between_two_tokens_leaves_the_kept_states_right() -> None:
    paths = [Path(asked) for asked in QUESTIONS]
    expected = row_by_row(llava)
    policy = TransformersPolicy(loaded(llava), batch_size=12)
    passes = iter(range(10**6))  # the rehearsals are among the first
    broken = RuntimeError("CUDA error: misaligned address")
    with limited(loaded(llava).model, lambda rows, tokens: next(passes) in (22, 25, 42), broken) as refused:
        samples, _ = grow(policy, Continue(), paths, 3)
    assert [ids for ids, _ in samples] == [ids for ids, _ in expected]
    assert refused.decoding > 0
    tree = tree_of(policy)
    assert sum(node.states.nbytes for node in nodes_of(tree) if node.states is not None) == tree.size > 0


@pytest.mark.slow
def test_what_is_kept_gives_way_when_a_single_row_finds_no_memory() -> None:
    paths = [Path(asked) for asked in QUESTIONS]
    expected = row_by_row(llava)
    policy = TransformersPolicy(loaded(llava), batch_size=1)
    tree = tree_of(policy)
    with limited(loaded(llava).model, lambda rows, tokens: tree.size > 450_000) as refused:
        samples, _ = grow(policy, Continue(), paths, 3)
    assert [ids for ids, _ in samples] == [ids for ids, _ in expected]
    assert refused.reading + refused.decoding > 0


@pytest.mark.parametrize("cache_gib", [4, 0])
def test_scores_are_the_same_where_few_rows_fit(cache_gib: float) -> None:
    def scorer(batch_size: int) -> LikelihoodPrm:
        arguments: dict[str, Any] = {"device": "cpu", "scale": 0.02, "bias": 1.5, "cache_gib": cache_gib}
        return prm_likelihood(str(folder(llava)), batch_size=batch_size, **arguments)

    expected, _ = judge(scorer(1), PATHS)
    tight = scorer(16)
    with limited(tight._checkpoint.model, lambda rows, tokens: rows > 1) as refused:
        scores, _ = judge(tight, PATHS)
    assert scores == pytest.approx(expected, abs=1e-5)
    assert refused.reading > 0


@pytest.mark.slow
def test_a_search_loses_no_question() -> None:
    questions = [replace(asked, id=f"{asked.id}{copy}") for asked in QUESTIONS for copy in range(3)]

    def results(batch_size: int) -> list[Result]:
        policy = TransformersPolicy(loaded(llava), batch_size=batch_size)
        scorer = LikelihoodPrm(loaded(llava), Continue(), 0.02, 1.5, batch_size=batch_size)
        settings = Settings(Sampling(1.0, rise=0.0, max_tokens=12), max_new_tokens=40, max_steps=3, retries=1)
        return Runner(policy, scorer, Continue(), beam(2, 3), settings, trees=True).run(questions)

    expected = results(8)
    with limited(loaded(llava).model, lambda rows, tokens: rows * tokens > 300) as refused:
        tight = results(24)
    assert refused.reading > 0
    assert refused.decoding > 0
    assert [told(result) for result in tight] == [told(result) for result in expected]


def told(result: Result) -> Any:
    """All but what it cost to read, and last bits."""
    assert isinstance(result, Outcome)
    nodes = [replace(node, logprob=None, score=node.score and round(node.score, 4)) for node in result.nodes]
    return result.steps, result.answer, result.stopped, nodes, result.usage.generated, result.usage.score_calls
