"""Generative PRMs with real models: the embedded one as its own critic, and a tiny language model."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from atomthink_plugin.api import Message, Outcome, Prompt, QuestionError, Sampling
from atomthink_plugin.config import scorer_plan
from atomthink_plugin.model_adapters.text_policy import text_policy
from atomthink_plugin.model_adapters.tiny import WEIGHTS
from atomthink_plugin.named_models import plan_for
from atomthink_plugin.runtime.build import build
from atomthink_plugin.tasks.demo.engine_questions import engine_questions
from atomthink_plugin.tasks.demo.questions import held_out
from tests.openai_server import ChatServer, logprob, rivals, serve
from tests.tiny_models import causal_prm, chain, folder, picture, question


@pytest.mark.parametrize("search", [{"search": "best_of_n", "n": 2}, {"search": "beam", "beams": 2}])
def test_any_model_can_judge_its_own_steps(search: dict[str, Any]) -> None:
    critic = {"scorer": "prm_judge", "prm_profile": "prompted_critic", "prm": str(WEIGHTS / "policy")}
    plan = plan_for("atomthink_tiny", {"thinking": "slow", **search, **critic, "prm_max_tokens": 6, "max_steps": 3})
    runner = build(plan)
    assert runner.scorer is not None
    assert runner.scorer.critic is runner.policy  # type: ignore[attr-defined]
    (outcome,) = runner.run(engine_questions(held_out(1)))
    assert isinstance(outcome, Outcome)
    assert outcome.usage.judged > outcome.usage.score_calls > 0
    assert all(score is not None and 0 < score < 1 for score in outcome.scores)


def test_a_language_model_without_images_is_a_critic() -> None:
    path = folder(causal_prm)
    policy = text_policy(str(path))
    asked = Prompt((Message("system", ("Judge.",)), Message("user", ("What is one plus one?",))), ("So",))
    (step,) = asyncio.run(policy.propose(asked, 1, Sampling(max_tokens=4, watch=("4", "2")))).steps
    words, model = AutoTokenizer.from_pretrained(path), AutoModelForCausalLM.from_pretrained(path)
    turns = [{"role": "system", "content": "Judge."}, {"role": "user", "content": "What is one plus one?"}]
    text = words.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    ids = torch.tensor([words.encode(f"{text}So", add_special_tokens=False)])
    with torch.inference_mode():
        expected = torch.log_softmax(model(input_ids=ids).logits[0, -1].float(), -1)
    four, two = (words.encode(word, add_special_tokens=False)[0] for word in ("4", "2"))
    assert step.watched == pytest.approx((float(expected[four]), float(expected[two])), abs=1e-4)
    assert step.token_ids[0] == int(expected.argmax())
    assert not math.isnan(step.logprob or 0.0)
    with pytest.raises(QuestionError, match="text alone"):
        asyncio.run(policy.propose(Prompt((Message("user", (picture(0), "What?")),)), 1, Sampling(max_tokens=2)))


@pytest.mark.parametrize("how", ["given", "silent"])
def test_a_critic_on_a_server_is_read_by_its_likeliest_tokens_or_by_its_text(how: Any) -> None:
    with serve(ChatServer(speaks=lambda *_: "Yes it is", logprobs=how)) as server:
        plan = scorer_plan(
            {"prm": "scripted", "scorer": "prm_judge", "prm_profile": "prompted_critic", "prm_base_url": server.url}
        )
        scorer = plan.make()
        score = asyncio.run(scorer.score(chain(question("How many?", picture(0)), "Step 1: One.")))
    said = [body["messages"] for body in server.asked if len(body["messages"]) > 1]
    assert [turn["role"] for turn in said[-1]] == ["user", "assistant", "user"]
    good, bad = logprob("Yes"), min(sorted([logprob("Yes"), *rivals("Yes")], reverse=True)[:20])
    expected = 1.0 if how == "silent" else 1 / (1 + math.exp(bad - good))
    assert score.value == pytest.approx(expected)
    assert "Yes it is" in score.reason
    assert score.usage.judged > 1
