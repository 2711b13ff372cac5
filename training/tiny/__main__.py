"""Makes the embedded policy and its PRM from nothing: `python -m atomthink_plugin.training.tiny --out DIR`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Final

import torch
from transformers import PreTrainedTokenizerFast

from atomthink_plugin.tasks.demo.questions import held_out
from atomthink_plugin.training.tiny.data import Codec, Pool
from atomthink_plugin.training.tiny.evaluate import evaluate
from atomthink_plugin.training.tiny.log import Log
from atomthink_plugin.training.tiny.model import SIZE, build_model, load, save
from atomthink_plugin.training.tiny.policy import CONTROL_PLAN, POLICY_PLAN, train_supervised
from atomthink_plugin.training.tiny.prm import PRM_PLAN, train_prm
from atomthink_plugin.training.tiny.tokenizer import build_tokenizer
from atomthink_plugin.training.tiny.vision import connect, pretrain_tower

FIGURES: Final = 20_000
LOOKING: Final = 2000
FINAL_SEED: Final = 4711


def make_tokenizer(out: Path) -> None:
    """Writes the tokenizer."""
    build_tokenizer().save_pretrained(out / "tokenizer")


def make_policy(out: Path) -> None:
    """Trains the vision tower, then the policy on top of it."""
    torch.manual_seed(0)
    codec, log, pool = _codec(out), Log(out / "policy.jsonl"), Pool(FIGURES, seed=1)
    policy = build_model(SIZE, codec.tokenizer)
    pretrain_tower(policy.model.vision_tower, SIZE.vision_width, pool, LOOKING, log)
    connect(policy, pool)
    train_supervised(policy, codec, pool, POLICY_PLAN, log)
    save(policy, codec.tokenizer, out / "policy")


def make_prm(out: Path) -> None:
    """Trains a copy of the policy to judge the policy's steps."""
    torch.manual_seed(1)
    codec, log, pool = _codec(out), Log(out / "prm.jsonl"), Pool(FIGURES, seed=2)
    prm = load(out / "policy").requires_grad_(True)
    calibration = train_prm(prm, load(out / "policy"), codec, pool, PRM_PLAN, log)
    prm.config.atomthink_prm = {"kind": "likelihood", "format": "continue", **calibration}
    save(prm, codec.tokenizer, out / "prm")


def make_control(out: Path) -> None:
    """Trains the policy on, about as long as its PRM was trained: what the search has to be compared with."""
    torch.manual_seed(2)
    codec, log, pool = _codec(out), Log(out / "control.jsonl"), Pool(FIGURES, seed=3)
    policy = load(out / "policy").requires_grad_(True)
    train_supervised(policy, codec, pool, CONTROL_PLAN, log)
    save(policy, codec.tokenizer, out / "control")


def measure(out: Path, questions: int, seed: int, temperature: float) -> None:
    """Measures policy and PRM step by step on held-out questions and writes the result."""
    prm = load(out / "prm")
    calibration: dict[str, Any] = prm.config.atomthink_prm
    asked = held_out(questions, seed)
    result = evaluate(load(out / "policy"), prm, calibration, _codec(out), asked, temperature=temperature)
    (out / "evaluation.json").write_text(json.dumps({"seed": seed, **result}, indent=1) + "\n")


STAGES: Final = {"tokenizer": make_tokenizer, "policy": make_policy, "prm": make_prm}


def _codec(out: Path) -> Codec:
    return Codec(PreTrainedTokenizerFast.from_pretrained(out / "tokenizer"))


def main() -> None:
    """Runs all stages, or the one that is named."""
    parser = argparse.ArgumentParser(prog="python -m atomthink_plugin.training.tiny", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, logs and results")
    parser.add_argument("--stage", choices=(*STAGES, "control", "evaluate"), help="default: all but control")
    parser.add_argument("--questions", type=int, default=600, help="held-out questions of the evaluation")
    parser.add_argument("--seed", type=int, default=FINAL_SEED, help="seed of the held-out questions")
    parser.add_argument("--temperature", type=float, default=1.0, help="temperature of the sampled chains")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, stage in STAGES.items():
        if arguments.stage in (None, name):
            stage(arguments.out)
    if arguments.stage == "control":
        make_control(arguments.out)
    if arguments.stage in (None, "evaluate"):
        measure(arguments.out, arguments.questions, arguments.seed, arguments.temperature)


if __name__ == "__main__":
    main()
