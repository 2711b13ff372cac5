"""`atomthink examples build`: a model's own right chains as examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.config import Plan
from atomthink_plugin.examples.example_file import ExampleRecord
from atomthink_plugin.examples.policy_embedding import embedding, policy_vectors
from atomthink_plugin.examples.tfidf import tfidf_vectors
from atomthink_plugin.named_models import rollout_plan, with_config_file
from atomthink_plugin.report.output_files import write_json
from atomthink_plugin.runtime.build import build
from atomthink_plugin.runtime.event_loop import run
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.training.annotate.own_rollouts import annotate_by_rollouts
from atomthink_plugin.training.annotate.results import Annotation
from atomthink_plugin.training.examples.selection import from_clusters, most_steps
from atomthink_plugin.training.records import AnsweredQuestion, sibling_file, write_records
from atomthink_plugin.training.sources import read_questions

Pick = Literal["all", "cluster", "complex"]
Embedding = Literal["tfidf", "policy"]

_K = 8


@dataclass(frozen=True, slots=True)
class Picking:
    """Which of the solved questions are kept.

    Attributes:
        pick: All of them, diverse ones, or those with the most steps.
        k: How many; 8 if None. Only for `cluster` and `complex`.
        embedding: The vectors of `cluster`.
    """

    pick: Pick = "all"
    k: int | None = None
    embedding: Embedding = "tfidf"

    def check(self, runner: Runner) -> None:
        """Raises AtomThinkError if the policy cannot give the vectors."""
        if self.pick == "cluster" and self.embedding == "policy":
            embedding(runner.policy, "--embedding policy", "--embedding tfidf")

    def picked(self, records: Sequence[ExampleRecord], runner: Runner) -> Sequence[ExampleRecord]:
        """Returns the records that are kept."""
        if self.pick == "complex":
            return most_steps(records, self.k or _K)
        if self.pick == "cluster" and records:
            return from_clusters(records, self._vectors([one.question for one in records], runner), self.k or _K)
        return records

    def _vectors(self, texts: Sequence[str], runner: Runner) -> NDArray[np.float64]:
        if self.embedding == "tfidf":
            return tfidf_vectors(texts)
        return run(policy_vectors(texts, embedding(runner.policy, "--embedding policy", "--embedding tfidf")))


def build_examples(
    source: str,
    out: Path,
    *,
    model: str,
    model_args: Mapping[str, Any],
    samples: int = 1,
    picking: Picking = Picking(),
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    limit: int | None = None,
) -> None:
    """Writes the examples, the rejects and a summary, and prints the summary. Continues an earlier run.

    The arguments are those of `atomthink examples build`.

    Raises:
        AtomThinkError: An argument or a file cannot be used, or no chain is right.
    """
    if picking.pick == "all" and picking.k is not None:
        raise AtomThinkError(f"`--k {picking.k}` needs `--pick cluster` or `--pick complex`: all examples are kept")
    if out.is_dir():
        raise AtomThinkError(f"`--out {out}` has to be a file")
    plan = _plan(model, model_args, samples)
    questions = read_questions(source, out.parent, split=split, columns=columns, limit=limit)
    runner = build(plan)
    picking.check(runner)
    annotation, rollouts = annotate_by_rollouts(questions, runner, model, samples)
    solved = _solved(questions.records, annotation, picking.pick)
    picked = picking.picked(solved, runner)
    write_records(out, picked)
    rejects = sibling_file(out, "rejects.jsonl")
    write_records(rejects, annotation.rejects)
    summary = {
        "model": model,
        "samples": samples,
        "rollouts": dict(rollouts),
        "asked": annotation.asked,
        "right": len(solved),
        "rejected": len(annotation.rejects),
        "rejects": {stage: dict(reasons) for stage, reasons in annotation.reasons().items()},
        "pick": picking.pick,
        "examples": len(picked),
    }
    write_json("--out", sibling_file(out, "summary.json"), summary)
    print(f"{len(solved)} of {annotation.asked} questions have a right chain, {len(picked)} are examples: {out}")
    annotation.print_rejects(rejects)
    if not picked:
        raise AtomThinkError("no chain is right: name another model, or sample more often with `--samples`")
    print(f"next: lmms-eval --model {model} --model_args {_typed(plan, out)} --tasks TASK")


def _plan(model: str, model_args: Mapping[str, Any], samples: int) -> Plan:
    """Returns the plan of the rollouts. A single one is greedy unless the user says otherwise."""
    typed = with_config_file(model_args)
    return rollout_plan(model, {"temperature": 0.0, **typed} if samples == 1 else typed)


def _solved(records: Sequence[AnsweredQuestion], annotation: Annotation, pick: Pick) -> list[ExampleRecord]:
    """Returns each question that has a right chain with one: the shortest one, or the longest for `complex`."""
    chains: dict[str, list[tuple[str, ...]]] = {}
    for chain in annotation.chains:
        chains.setdefault(chain["id"].rpartition("/")[0], []).append(tuple(chain["steps"]))
    sign = -1 if pick == "complex" else 1
    return [
        ExampleRecord(
            **record.model_dump(include={"id", "question", "images", "options", "answer"}),
            steps=min(chains[record.id], key=lambda steps: (sign * len(steps), steps)),
        )
        for record in records
        if record.id in chains
    ]


def _typed(plan: Plan, out: Path) -> str:
    """Returns the arguments of a run with the examples."""
    form = plan.identity["format"]["name"]
    return f"format=few_shot,format_examples={out}" + (f",format_form={form}" if form != "continue" else "")
