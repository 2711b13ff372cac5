"""How much is kept: many questions wait, few are under way."""

from __future__ import annotations

import pytest

from atomthink_plugin.api import Usage
from atomthink_plugin.config import plan
from atomthink_plugin.model_adapters.tiny import TINY_ARGUMENTS
from atomthink_plugin.runtime.build import build
from atomthink_plugin.tasks.demo.engine_questions import engine_questions
from atomthink_plugin.tasks.demo.questions import held_out

pytestmark = pytest.mark.slow


QUESTIONS = 18
SIX_QUESTIONS = 0.003
"""GiB of the embedded policy's keys and values of the trees of six questions."""


def test_a_cache_for_a_few_questions_is_enough_for_many_in_flight() -> None:
    arguments = {
        "pretrained": TINY_ARGUMENTS["pretrained"],
        "step_tokens": 48,
        "scorer": "confidence",
        "thinking": "slow",
        "batch_size": 6,
        "cache_gib": SIX_QUESTIONS,
        "concurrency": QUESTIONS,
        "device": "cpu",
    }
    results = build(plan("transformers", arguments)).run(engine_questions(held_out(QUESTIONS)))
    usage = sum((result.usage for result in results), Usage())
    assert usage.policy_calls > 9 * QUESTIONS
    assert usage.images == QUESTIONS
