"""The line of the samples file for one reply, and the metrics of a task computed from these lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from atomthink_plugin.accuracy_stats import wilson
from atomthink_plugin.tasks.benchmarks.benchmark import Benchmark, Document, reference_answer
from atomthink_plugin.tasks.benchmarks.llm_judge import llm_verdict
from atomthink_plugin.tasks.scoring.judges import SCORER_VERSION, judge
from atomthink_plugin.tasks.scoring.verdict import AnswerVerdict
from atomthink_plugin.tasks.step_quality import StepQuality, step_quality, summarize
from atomthink_plugin.tasks.unprinted import Unprinted

SCORER: Final = f"atomthink judge-free {SCORER_VERSION}"

_NO_REPLY: Final = AnswerVerdict(None, None, False, "no reply")


def sample_line(benchmark: Benchmark, doc: Document, reply: str) -> dict[str, Any]:
    """Scores one reply; this is the result of a task's `process_results`.

    If the reference answer is hidden, `acc` and `correct` are None. An empty reply is wrong, and `no_reply` is set:
    a failed question has an empty reply as well.

    Returns:
        A value for each metric of the task, and fields for the samples file: the benchmark's record of the
        `question`, the `extracted` and `normalized` answer, the `rule` that found it, and the LLM judge's verdict if
        it is enabled.
    """
    answer = reference_answer(doc)
    record = benchmark.record(doc)
    verdict = judge(benchmark.name, record, reply) if reply.strip() else _NO_REPLY
    correct = verdict.correct if answer is not None else None
    groups = benchmark.groups(doc)
    steps = step_quality(reply)
    line = {
        "acc": None if correct is None else float(correct),
        "correct": correct,
        f"by_{next(iter(groups))}": {"groups": groups, "correct": correct},
        "breakdown": {"groups": groups, "correct": correct},
        "steps": {"n": steps.steps, "valid": steps.valid, "repeated": steps.repeated, "concluded": steps.concluded},
        "no_reply": not reply.strip(),
        "scorer": SCORER,
        "benchmark": benchmark.name,
        "question": record,
        "extracted": verdict.extracted,
        "normalized": verdict.normalized,
        "rule": verdict.rule,
    }
    if answer is None or not reply.strip():
        return line
    second = llm_verdict(lambda: benchmark.judge_question(doc), answer, reply)
    return {**line, "llm_judge": {**second, "rules": correct}} if second else line


def accuracy(items: Sequence[float | None]) -> float | None:
    """Returns the share of correct replies among those with a verdict, None if none has one."""
    known = [item for item in items if item is not None]
    return sum(known) / len(known) if known else None


def counts(items: Sequence[bool | None]) -> dict[str, float | int | None]:
    """Returns how many replies are `right` `of` those with a verdict, and the Wilson 95 % interval of their share."""
    known = [item for item in items if item is not None]
    if not known:
        return {"right": None, "of": 0, "low": None, "high": None}
    low, high = wilson(sum(known), len(known))
    return {"right": sum(known), "of": len(known), "low": round(low, 4), "high": round(high, 4)}


def pooled_counts(metrics: Sequence[Mapping[str, Any]], sizes: Sequence[int], weight_by_size: bool) -> dict[str, Any]:
    """Returns the `counts` over several tasks. lmms-eval calls this for a group."""
    right, total = (sum(one[key] or 0 for one in metrics) for key in ("right", "of"))
    return counts([True] * right + [False] * (total - right))


def breakdown(items: Sequence[Mapping[str, Any]]) -> Unprinted:
    """Returns the accuracy and the `counts` for each value of each grouping."""
    verdicts: dict[str, dict[str, list[bool | None]]] = {}
    for item in items:
        for grouping, values in item["groups"].items():
            for value in values:
                verdicts.setdefault(grouping, {}).setdefault(value, []).append(item["correct"])
    return Unprinted(
        {grouping: {value: _share(values[value]) for value in sorted(values)} for grouping, values in verdicts.items()}
    )


def headline_accuracy(items: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Returns the accuracy for each value of the first grouping."""
    table = breakdown(items)
    return {value: share["acc"] for value, share in table[next(iter(table))].items()}


def _share(verdicts: Sequence[bool | None]) -> dict[str, Any]:
    share = accuracy([None if verdict is None else float(verdict) for verdict in verdicts])
    return {"acc": None if share is None else round(share, 4), **counts(verdicts)}


def step_summary(items: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Returns steps per answer and the shares of well-formed chains and repeated steps; see `step_quality`."""
    return summarize([StepQuality(item["n"], item["valid"], item["repeated"], item["concluded"]) for item in items])


def count_true(items: Sequence[bool]) -> int:
    """Returns how many items are true."""
    return sum(items)


def scorer_name(items: Sequence[str]) -> str:
    """Returns the scorer's name and version."""
    return items[0]


def llm_judge_summary(items: Sequence[Mapping[str, Any]]) -> dict[str, float | int | str | None]:
    """Returns the accuracy by the LLM judge, its agreement with the rules, and how often it gave no verdict."""
    known = [item for item in items if item["correct"] is not None]
    return {
        "model": items[0]["model"],
        "acc": accuracy([float(item["correct"]) for item in known]),
        "agreement": accuracy([float(item["correct"] == item["rules"]) for item in known]),
        "failed": len(items) - len(known),
    }
