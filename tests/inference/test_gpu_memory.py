import pytest

from atomthink_plugin.inference.gpu_memory import least_share, pool_tokens, tokens_that_fit, with_share, working_memory
from tests.tiny_models import llava, loaded

GIB = 2**30
TOKEN = 2**19
"""Bytes of a token of LLaVA-1.5-7B."""


def test_most_of_the_free_memory_is_used_and_the_rest_stays_for_the_second_model() -> None:
    free, total = 110 * GIB, 139 * GIB
    policy = tokens_that_fit(free, total, None, 14 * GIB, TOKEN)
    assert policy is not None
    assert policy % 64 == 0
    assert 0.5 * free < policy * TOKEN < 0.7 * free
    prm = tokens_that_fit(free - policy * TOKEN, total, None, 15 * GIB, 57_344)
    assert prm is not None
    assert policy * TOKEN + prm * 57_344 <= free - working_memory(total)


def test_a_share_counts_the_weights_and_never_exceeds_what_is_free() -> None:
    total, weights = 80 * GIB, 14 * GIB
    half = tokens_that_fit(60 * GIB, total, 0.5, weights, TOKEN)
    assert half is not None
    assert half * TOKEN == 40 * GIB - weights - working_memory(total)
    crowded = tokens_that_fit(20 * GIB, total, 0.9, weights, TOKEN)
    assert crowded is not None
    assert crowded * TOKEN == 20 * GIB - working_memory(total)


def test_a_pool_of_too_few_tokens_is_none() -> None:
    assert tokens_that_fit(7 * GIB, 80 * GIB, None, 14 * GIB, TOKEN) is None
    assert tokens_that_fit(60 * GIB, 80 * GIB, 0.2, 14 * GIB, TOKEN) is None


@pytest.mark.parametrize("total", [12 * GIB, 24 * GIB, 80 * GIB])
def test_the_least_share_is_just_enough(total: int) -> None:
    weights = total // 3
    least = least_share(total, weights, TOKEN)
    assert tokens_that_fit(total, total, least + 1e-6, weights, TOKEN) is not None
    assert tokens_that_fit(total, total, least - 0.01, weights, TOKEN) is None


def test_a_cpu_has_no_limit() -> None:
    assert with_share(loaded(llava), 0.1, "gpu_memory") is loaded(llava)
    assert pool_tokens(loaded(llava), TOKEN) is None
