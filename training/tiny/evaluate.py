"""How well policy and PRM do step by step on held-out questions; `benchmarks/held_out.py` compares the searches."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from transformers import LlavaForConditionalGeneration

from atomthink_plugin.tasks.demo.questions import DemoQuestion
from atomthink_plugin.training.tiny.data import Codec, pixels_of
from atomthink_plugin.training.tiny.labels import verdicts
from atomthink_plugin.training.tiny.prm import score_chains
from atomthink_plugin.training.tiny.rollouts import Chain, sample_chains

Group = Sequence[Chain]
Scores = Sequence[Sequence[float]]


def evaluate(
    policy: LlavaForConditionalGeneration,
    prm: LlavaForConditionalGeneration,
    calibration: dict[str, float],
    codec: Codec,
    questions: Sequence[DemoQuestion],
    samples: int = 8,
    temperature: float = 1.0,
    seed: int = 0,
) -> dict[str, Any]:
    """Returns shares of right answers and right steps, and how well the PRM tells right steps from wrong ones."""
    asked = [(question, pixels_of(question.figure)) for question in questions]
    greedy = sample_chains(policy, codec, asked, 1, 0.0, seed)
    groups = sample_chains(policy, codec, asked, samples, temperature, seed)
    scores = score_chains(prm, codec, calibration, questions, groups)
    return {
        "questions": len(questions),
        "samples": samples,
        "temperature": temperature,
        "right_greedy": _right(questions, greedy),
        "right_sampled": _right(questions, groups),
        "steps_greedy": step_accuracy(questions, greedy),
        "steps_sampled": step_accuracy(questions, groups),
        "prm_steps": _detection(questions, groups, scores),
        "within_question_auc": round(_auc(questions, groups, scores), 3),
    }


def _right(questions: Sequence[DemoQuestion], groups: Sequence[Group]) -> float:
    right = [chain.right(question) for question, group in zip(questions, groups, strict=True) for chain in group]
    return round(sum(right) / len(right), 4)


def step_accuracy(questions: Sequence[DemoQuestion], groups: Sequence[Group]) -> dict[str, float]:
    """Returns the share of right steps by kind: reading per figure, each operator, conclusion."""
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for question, group in zip(questions, groups, strict=True):
        kinds = _kinds(question)
        for chain in group:
            for kind, verdict in zip(kinds, verdicts(question, chain.steps), strict=False):
                right[kind] += verdict
                total[kind] += 1
    return {kind: round(right[kind] / total[kind], 4) for kind in sorted(total)}


def _kinds(question: DemoQuestion) -> list[str]:
    names = {"read": f"read {question.figure.kind}", "conclude": "conclude"}
    return [names.get(action.verb, f"compute {action.operator}") for action in question.plan()]


def _detection(
    questions: Sequence[DemoQuestion], groups: Sequence[Group], scores: Sequence[Scores]
) -> dict[str, list[float]]:
    """Returns by kind of step the share of right ones scored above 0.5 and of wrong ones not above."""
    hits: Counter[tuple[str, bool]] = Counter()
    total: Counter[tuple[str, bool]] = Counter()
    for question, group, chains in zip(questions, groups, scores, strict=True):
        kinds = _kinds(question)
        for chain, steps in zip(group, chains, strict=True):
            if chain.answer is None:
                continue  # it was not scored
            for kind, right, score in zip(kinds, verdicts(question, chain.steps), steps, strict=False):
                total[kind, right] += 1
                hits[kind, right] += (score > 0.5) == right
    return {
        kind: [round(hits[kind, right] / max(total[kind, right], 1), 3) for right in (True, False)]
        for kind in sorted({kind for kind, _ in total})
    }


def _auc(questions: Sequence[DemoQuestion], groups: Sequence[Group], scores: Sequence[Scores]) -> float:
    values = [[math.prod(steps) for steps in chains] for chains in scores]
    right = [[chain.right(q) for chain in group] for q, group in zip(questions, groups, strict=True)]
    return within_auc(list(zip(values, right, strict=True)))


def within_auc(groups: Sequence[tuple[Sequence[float], Sequence[bool]]]) -> float:
    """Returns the mean, over groups with both kinds, of the chance that a right one scores higher."""
    shares = []
    for scores, right in groups:
        good = [s for s, r in zip(scores, right, strict=True) if r]
        bad = [s for s, r in zip(scores, right, strict=True) if not r]
        if good and bad:
            wins = sum((g > b) + 0.5 * (g == b) for g in good for b in bad)
            shares.append(wins / (len(good) * len(bad)))
    return sum(shares) / len(shares) if shares else float("nan")
