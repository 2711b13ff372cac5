"""From a reply to a line of the samples file, and from those to the numbers of a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from atomthink_plugin.accuracy_stats import wilson
from atomthink_plugin.tasks.benchmarks.benchmark import Benchmark, Document, answer_of
from atomthink_plugin.tasks.benchmarks.llm_judge import opinion
from atomthink_plugin.tasks.scoring.judges import SCORER_VERSION, judge
from atomthink_plugin.tasks.scoring.verdict import AnswerVerdict
from atomthink_plugin.tasks.step_quality import Quality, quality, summary

SCORER: Final = f"atomthink judge-free {SCORER_VERSION}"

_NO_REPLY: Final = AnswerVerdict(None, None, False, "no reply")


def scored(benchmark: Benchmark, doc: Document, reply: str) -> dict[str, Any]:
    """Scores one reply; what `process_results` of a task returns.

    Where the reference answer is hidden, `acc` and `correct` are None: the prediction is all there is. An empty
    reply is wrong, and counted as no reply besides, since a question that failed looks the same here.

    Returns:
        A value for each metric of the task, and for the samples file: the `question`'s own record, what was
        `extracted` and `normalized`, the `rule` that spoke, and the LLM judge's verdict if one was asked.
    """
    answer = answer_of(doc)
    record = benchmark.record(doc)
    verdict = judge(benchmark.name, record, reply) if reply.strip() else _NO_REPLY
    correct = verdict.correct if answer is not None else None
    groups = benchmark.groups(doc)
    found = quality(reply)
    line = {
        "acc": None if correct is None else float(correct),
        "correct": correct,
        f"by_{next(iter(groups))}": {"groups": groups, "correct": correct},
        "breakdown": {"groups": groups, "correct": correct},
        "steps": {"n": found.steps, "valid": found.valid, "repeated": found.repeated, "concluded": found.concluded},
        "no_reply": not reply.strip(),
        "scorer": SCORER,
        "benchmark": benchmark.name,
        "question": record,
        "extracted": verdict.extracted,
        "normalized": verdict.normalized,
        "rule": verdict.rule,
    }
    asked = answer is not None and bool(reply.strip())
    said = opinion(lambda: benchmark.evaluated(doc), str(answer), reply) if asked else None
    return {**line, "llm_judge": {**said, "rules": correct}} if said else line


class Unprinted(dict[str, Any]):
    """A mapping for the results file alone: the harness's table leaves out values of length 0."""

    def __len__(self) -> int:
        """Returns 0."""
        return 0

    def __bool__(self) -> bool:
        """Returns True, or JSON would leave its content out as well."""
        return True


def accuracy(items: Sequence[float | None]) -> float | None:
    """Returns the share of right answers among those that can be judged; None where none can."""
    known = [item for item in items if item is not None]
    return sum(known) / len(known) if known else None


def counts(items: Sequence[bool | None]) -> dict[str, float | int | None]:
    """Returns how many are right `of` how many that can be judged, with the Wilson 95 % interval's ends."""
    known = [item for item in items if item is not None]
    if not known:
        return {"right": None, "of": 0, "low": None, "high": None}
    low, high = wilson(sum(known), len(known))
    return {"right": sum(known), "of": len(known), "low": round(low, 4), "high": round(high, 4)}


def pooled(metrics: Sequence[Mapping[str, Any]], sizes: Sequence[int], weight_by_size: bool) -> dict[str, Any]:
    """Returns the `counts` of several tasks taken together; called for a group by the harness."""
    right, total = (sum(one[key] or 0 for one in metrics) for key in ("right", "of"))
    return counts([True] * right + [False] * (total - right))


def breakdown(items: Sequence[Mapping[str, Any]]) -> Unprinted:
    """Returns for each value of each grouping its accuracy and `counts`."""
    table: dict[str, dict[str, list[bool | None]]] = {}
    for item in items:
        for grouping, values in item["groups"].items():
            for value in values:
                table.setdefault(grouping, {}).setdefault(value, []).append(item["correct"])
    return Unprinted({grouping: _sorted(values, _share) for grouping, values in table.items()})


def headline(items: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Returns the accuracy for each value of the first grouping."""
    table = breakdown(items)
    return {value: share["acc"] for value, share in table[next(iter(table))].items()}


def _share(verdicts: Sequence[bool | None]) -> dict[str, Any]:
    share = accuracy([None if verdict is None else float(verdict) for verdict in verdicts])
    return {"acc": None if share is None else round(share, 4), **counts(verdicts)}


def _sorted(values: Mapping[str, Any], fold: Callable[[Any], Any]) -> dict[str, Any]:
    return {value: fold(values[value]) for value in sorted(values)}


def step_quality(items: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Returns steps per answer, the share of well-formed chains and of repeated steps; see `quality.summary`."""
    return summary([Quality(item["n"], item["valid"], item["repeated"], item["concluded"]) for item in items])


def total(items: Sequence[bool]) -> int:
    """Returns how many are true."""
    return sum(items)


def scorer(items: Sequence[str]) -> str:
    """Returns the scorer's name and version."""
    return items[0]


def judged(items: Sequence[Mapping[str, Any]]) -> dict[str, float | int | str | None]:
    """Returns what the LLM judge found: its accuracy, its agreement with the rules, and how often it failed."""
    known = [item for item in items if item["correct"] is not None]
    return {
        "model": items[0]["model"],
        "acc": accuracy([float(item["correct"]) for item in known]),
        "agreement": accuracy([float(item["correct"] == item["rules"]) for item in known]),
        "failed": len(items) - len(known),
    }
