"""Every stage of the embedded model's training runs, and training sees what inference sees."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch
from transformers import LlavaForConditionalGeneration

from atomthink_plugin.api import Message, Question, Step
from atomthink_plugin.api import Path as Chain
from atomthink_plugin.checkpoints import load_multimodal
from atomthink_plugin.formats import Continue
from atomthink_plugin.model_adapters.tiny import WEIGHTS
from atomthink_plugin.prompting import Encoder
from atomthink_plugin.scorers.prm_likelihood import prm_likelihood
from atomthink_plugin.tasks.demo.figures import draw
from atomthink_plugin.tasks.demo.questions import held_out
from atomthink_plugin.training.tiny.data import Codec, Pool, pixels_of, scaled
from atomthink_plugin.training.tiny.evaluate import evaluate
from atomthink_plugin.training.tiny.log import Log
from atomthink_plugin.training.tiny.model import Size, build_model, load, save
from atomthink_plugin.training.tiny.policy import Plan, train_supervised
from atomthink_plugin.training.tiny.prm import JudgingPlan, Round, score_chains, train_prm
from atomthink_plugin.training.tiny.rollouts import sample_chains
from atomthink_plugin.training.tiny.vision import connect, pretrain_tower

QUESTIONS = held_out(4, seed=5)
ASKED = [(question, pixels_of(question.figure)) for question in QUESTIONS]


@pytest.fixture(scope="module")
def policy() -> LlavaForConditionalGeneration:
    return load(WEIGHTS / "policy")


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(load_multimodal(str(WEIGHTS / "policy"), device="cpu").tokenizer)


def test_every_stage_trains_and_what_is_saved_can_be_loaded(codec: Codec, tmp_path: Path) -> None:
    torch.manual_seed(0)
    log, pool = Log(tmp_path / "log.jsonl"), Pool(20, seed=1)
    size = Size(vision_width=32, vision_layers=1, text_width=32, text_layers=1, text_mlp=32)
    model = build_model(size, codec.tokenizer)
    untrained = {name: weight.clone() for name, weight in model.state_dict().items()}
    pretrain_tower(model.model.vision_tower, size.vision_width, pool, 2, log)
    connect(model, pool)
    train_supervised(model, codec, pool, Plan(naming=2, reading=2, solving=2), log)
    save(model, codec.tokenizer, tmp_path / "policy")
    trained = load(tmp_path / "policy")
    moved = [name for name, weight in trained.state_dict().items() if not torch.equal(weight, untrained[name])]
    assert any("vision_tower" in name for name in moved)
    assert any("projector" in name for name in moved)
    assert any("language_model" in name for name in moved)


def test_the_prm_trains_on_a_policys_own_chains_and_can_be_measured(
    policy: LlavaForConditionalGeneration, codec: Codec, tmp_path: Path
) -> None:
    prm = load(WEIGHTS / "policy").requires_grad_(True)
    log, pool = Log(tmp_path / "log.jsonl"), Pool(20, seed=1)
    calibration = train_prm(prm, policy, codec, pool, JudgingPlan(claims=1, rounds=(Round(1, 60), Round(1, 20))), log)
    record = evaluate(policy, prm, calibration, codec, QUESTIONS, samples=2)
    assert record["questions"] == 4
    assert set(record["prm_steps"]) >= {"conclude"}
    assert {"claims", "rollouts", "chains"} == {
        line.split('"')[3] for line in (tmp_path / "log.jsonl").read_text().splitlines()
    }


def test_sampled_chains_are_those_of_generate(policy: LlavaForConditionalGeneration, codec: Codec) -> None:
    chains = sample_chains(policy, codec, ASKED, 1, 0.0, seed=0)
    for (question, pixels), (chain,) in zip(ASKED, chains, strict=True):
        ids = torch.tensor([codec.prompt(question.text)])
        whole = policy.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=scaled(pixels[None]),
            max_new_tokens=150,
            do_sample=False,
        )
        text = codec.tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=True)
        assert "\n\n".join(chain.steps) == text


def test_training_encodes_what_the_engine_encodes(codec: Codec) -> None:
    encoder = Encoder(load_multimodal(str(WEIGHTS / "policy"), device="cpu"))
    for question in QUESTIONS:
        asked = Question("q", (Message("user", (draw(question), question.text)),))
        encoding = encoder.encode(Continue().render(Chain(asked)))
        assert codec.prompt(question.text) == encoding.tokens["input_ids"][0].tolist()


def test_training_scores_what_the_scorer_scores(policy: LlavaForConditionalGeneration, codec: Codec) -> None:
    prm = load(WEIGHTS / "prm")
    scorer = prm_likelihood(str(WEIGHTS / "prm"), dtype="float32", device="cpu")
    chains = sample_chains(policy, codec, ASKED, 1, 1.0, seed=3)
    trained = score_chains(prm, codec, prm.config.atomthink_prm, QUESTIONS, chains)

    async def score(path: Chain) -> list[float]:
        return [(await scorer.score(node)).value for node in path.lineage]

    for question, (chain,), (expected,) in zip(QUESTIONS, chains, trained, strict=True):
        if chain.answer is None:
            continue
        path = Chain(Question("q", (Message("user", (draw(question), question.text)),)))
        for index, text in enumerate(chain.steps):
            path = path.extend(Step(text), chain.answer if index == len(chain.steps) - 1 else None)
        assert asyncio.run(score(path)) == pytest.approx(expected, abs=1e-3)
