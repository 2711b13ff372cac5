"""Offline evaluation on held-out questions: every method on the same sampled chains."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from transformers import LlavaForConditionalGeneration

from atomthink_plugin.aggregates import AGGREGATES
from atomthink_plugin.statistics import mcnemar, wilson
from atomthink_plugin.tasks.demo.questions import DemoQuestion
from atomthink_plugin.training.tiny.data import Codec
from atomthink_plugin.training.tiny.labels import verdicts
from atomthink_plugin.training.tiny.prm import score_chains
from atomthink_plugin.training.tiny.rollouts import Chain, sample_chains

COUNTS: Final = (1, 2, 4, 8, 16)
Group = Sequence[Chain]
Scores = Sequence[Sequence[float]]


def evaluate(
    policy: LlavaForConditionalGeneration,
    prm: LlavaForConditionalGeneration,
    calibration: dict[str, float],
    codec: Codec,
    questions: Sequence[DemoQuestion],
    temperature: float = 1.0,
    seed: int = 0,
) -> dict[str, Any]:
    """Returns accuracy of every method in percent, with intervals and paired tests against greedy."""
    most = max(COUNTS)
    single = {
        "direct": sample_chains(policy, codec, questions, 1, 0.0, seed, "direct"),
        "cot": sample_chains(policy, codec, questions, 1, 0.0, seed, "cot"),
        "quick_greedy": sample_chains(policy, codec, questions, 1, 0.0, seed),
    }
    results = {name: _right(questions, [g[0] for g in groups]) for name, groups in single.items()}
    groups = sample_chains(policy, codec, questions, most, temperature, seed)
    scores = score_chains(prm, codec, calibration, questions, groups)
    for n in COUNTS:
        cut = [group[:n] for group in groups]
        results[f"majority@{n}"] = _right(questions, [_majority(group) for group in cut])
        results[f"likelihood@{n}"] = _right(questions, [max(group, key=_likelihood) for group in cut])
        results[f"pass@{n}"] = [
            any(chain.right(question) for chain in group) for question, group in zip(questions, cut, strict=True)
        ]
        for name, aggregate in AGGREGATES.items():
            chosen = [_best(group, s[:n], aggregate) for group, s in zip(cut, scores, strict=True)]
            results[f"best_of_{name}@{n}"] = _right(questions, chosen)
    every = [chain.right(q) for q, group in zip(questions, groups, strict=True) for chain in group]
    greedy = results["quick_greedy"]
    return {
        "questions": len(questions),
        "temperature": temperature,
        "quick_sampled": _share(every)["share"],
        "accuracy": {name: _share(right) for name, right in results.items()},
        "against_greedy": {name: _paired(results[name], greedy) for name in results if name.endswith(("@8", "@16"))},
        "best_of_8_against_majority_8": _paired(results["best_of_prod@8"], results["majority@8"]),
        "within_question_auc": round(_auc(questions, groups, scores), 3),
        "steps_greedy": step_accuracy(questions, single["quick_greedy"]),
        "steps_sampled": step_accuracy(questions, groups),
        "prm_steps": _detection(questions, groups, scores),
    }


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
            for kind, right, score in zip(kinds, verdicts(question, chain.steps), steps, strict=False):
                total[kind, right] += 1
                hits[kind, right] += (score > 0.5) == right
    return {
        kind: [round(hits[kind, right] / max(total[kind, right], 1), 3) for right in (True, False)]
        for kind in sorted({kind for kind, _ in total})
    }


def _right(questions: Sequence[DemoQuestion], chains: Sequence[Chain]) -> list[bool]:
    return [chain.right(question) for question, chain in zip(questions, chains, strict=True)]


def _likelihood(chain: Chain) -> float:
    return sum(chain.logprobs) / len(chain.logprobs)


def _majority(group: Group) -> Chain:
    """The likeliest chain of the answer that most chains give; chains without an answer do not vote."""
    votes: Counter[str | None] = Counter(chain.answer for chain in group if chain.answer is not None)
    return max(group, key=lambda chain: (votes[chain.answer], _likelihood(chain)))


def _best(group: Group, scores: Scores, aggregate: Callable[[Sequence[float]], float]) -> Chain:
    order = range(len(group))
    return group[max(order, key=lambda i: (group[i].answer is not None, aggregate(scores[i])))]


def _share(right: Sequence[bool]) -> dict[str, float]:
    """Returns the share of right answers in percent, with its interval."""
    low, high = wilson(sum(right), len(right))
    return {"share": _percent(sum(right) / len(right)), "low": _percent(low), "high": _percent(high)}


def _percent(share: float) -> float:
    return round(100 * share, 1)


def _paired(first: Sequence[bool], second: Sequence[bool]) -> dict[str, float]:
    """Returns how often only one of two methods is right, and McNemar's p-value."""
    pairs = list(zip(first, second, strict=True))
    won, lost = (sum(a > b for a, b in order) for order in (pairs, [(b, a) for a, b in pairs]))
    return {"won": won, "lost": lost, "p": float(f"{mcnemar(first, second):.2g}")}


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
