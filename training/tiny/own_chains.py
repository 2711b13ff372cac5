"""Chains that a policy samples on the demo task, with exact labels in place of the estimates of `atomthink label`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from atomthink_plugin.named_models import rollout_plan
from atomthink_plugin.runtime.build import build
from atomthink_plugin.tasks.demo.questions import DemoQuestion
from atomthink_plugin.training.label.rollouts import sample_chains
from atomthink_plugin.training.records import AnsweredQuestion, Chain, json_rows, read_records, relocated, write_records
from atomthink_plugin.training.tiny.files import Record, labelled_chain

log = logging.getLogger(__name__)


def sample_labelled(questions: Path, policy: str, temperature: float, out: Path) -> None:
    """Samples one chain per question and writes those with a final answer, with their labels.

    Args:
        questions: A file of `asking` records.
        policy: The policy's folder.
        temperature: Of the samples.
        out: The file; images are relative to it.
    """
    demo = [record["demo"] for _, record in json_rows(questions)]
    asked = read_records(questions, AnsweredQuestion, required=("answer",), check_images=False)
    asked_for = {question.id: DemoQuestion.from_json(one) for question, one in zip(asked.records, demo, strict=True)}
    plan = rollout_plan("atomthink_tiny", {"pretrained": policy, "temperature": temperature})
    sampled = sample_chains(asked, replace(build(plan), journal=None), 1, temperature)
    chains = [chain for chain in sampled.chains if plan.format.answer(chain.steps[-1]) is not None]
    log.info("%d chains with an answer, of %d questions", len(chains), len(asked.records))
    write_records(out, (_record(relocated(chain, questions.parent, out), asked_for) for chain in chains))


def _record(chain: Chain, asked_for: Mapping[str, DemoQuestion]) -> Record:
    question = asked_for[chain.id.rpartition("/")[0]]
    return {"id": chain.id, **labelled_chain(question, chain.images[0], list(chain.steps))}
