"""Runs in lmms-eval's format, written by hand: results, samples, and the journal of searches on scripted models."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from PIL import Image

from atomthink_plugin.answers import equivalent
from atomthink_plugin.api import Failure, Message, Outcome, Question, Search
from atomthink_plugin.runtime.journal import Journal
from tests.trees import Grove, question, tree_of

TASK = "sums"
DATE = "20260101_120000"


def asked(doc_id: int, task: str = TASK) -> str:
    return f"{task}/test/{doc_id}/0"


def search_all(search: Search, groves: Sequence[Grove], **settings: int) -> list[Outcome]:
    """Runs a search on each grove as question 0, 1, ... of the task."""
    outcomes = []
    for doc_id, grove in enumerate(groves):
        tree = tree_of(grove, id=asked(doc_id), **settings)
        outcomes.append(tree.outcome(asyncio.run(search(tree))))
    return outcomes


@dataclass(frozen=True)
class Written:
    """A run on disk."""

    out: FilePath
    journal: FilePath | None


def write_run(
    folder: FilePath,
    outcomes: Sequence[Outcome | Failure],
    targets: Sequence[str],
    search: Mapping[str, Any] | None = None,
    groups: Callable[[int], Mapping[str, Sequence[str]]] = lambda doc_id: {},
    task: str = TASK,
    scorer: str | None = None,
    journal: bool = True,
    extra: Mapping[str, Any] | None = None,
    images: Callable[[int], Sequence[Image.Image]] = lambda doc_id: (),
) -> Written:
    """Writes the files of a run of the harness and its journal."""
    out = folder / "out"
    out.mkdir(parents=True)
    named = {"thinking": "slow", "search": dict(search or {"name": "majority"})}
    settings = {**named, "policy_weights": "scripted", "scorer_weights": "s"}
    kept = Journal(folder / "journal", "run", settings) if journal else None
    lines = []
    for doc_id, (result, target) in enumerate(zip(outcomes, targets, strict=True)):
        if kept is not None:
            text = question(asked(doc_id, task)).text
            kept.put(Question(asked(doc_id, task), (Message("user", (text, *images(doc_id))),)), result)
        line = sample(doc_id, result, target, kept.folder.name if kept is not None else "")
        line |= {"groups": groups(doc_id)} | ({"scorer": scorer} if scorer else {}) | dict(extra or {})
        lines.append(json.dumps(line))
    (out / f"{DATE}_samples_{task}.jsonl").write_text("\n".join(lines) + "\n")
    arguments = f"thinking=slow,journal={folder / 'journal'}" if journal else "thinking=slow"
    results = {
        "config": {"model": "atomthink_scripted", "model_args": arguments},
        "higher_is_better": {task: {"acc": True}},
        "versions": {task: 1.0},
        "n-samples": {task: {"original": len(lines), "effective": len(lines)}},
        "throughput": {
            "total_gen_tokens": sum(result.usage.generated for result in outcomes),
            "total_elapsed_time": 8.0,
        },
    }
    (out / f"{DATE}_results.json").write_text(json.dumps(results))
    if kept is not None:
        kept.close()
    return Written(out, kept.folder if kept is not None else None)


def sample(doc_id: int, result: Outcome | Failure, target: str, journal: str) -> dict[str, Any]:
    if isinstance(result, Failure):
        counts: dict[str, Any] = {"status": "failed", "error": result.reason}
        reply, answer = "", None
    else:
        reply, answer = result.text, result.answer
        counts = {
            "output_tokens": result.usage.generated,
            "policy_calls": result.usage.policy_calls,
            "score_calls": result.usage.score_calls,
            "stopped": result.stopped,
            "status": "answered",
            **({"judged_tokens": result.usage.judged} if result.usage.judged else {}),
            **({"journal": journal} if journal else {}),
        }
    return {
        "doc_id": doc_id,
        "target": target,
        "filtered_resps": reply,
        "token_counts": [counts],
        "input": f"What is {asked(doc_id)}?",
        "acc": float(answer is not None and equivalent(answer, target)),
    }
