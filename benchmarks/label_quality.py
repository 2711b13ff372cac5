"""How good are step labels, and what do they cost? Three ways, measured against the demo task's exact labels.

    python benchmarks/label_quality.py --questions 200 --json benchmarks/results/label_quality.json

- teacher: gold chains, whole and up to a step that a scripted teacher has written wrongly (AtomThink's way); labels are
  by construction. The teacher confuses items, operators and results as people do and does not check what comes out,
  so that some of its wrong steps are right by accident.
- monte_carlo: N rollouts from behind every step (Math-Shepherd, hard labels). It cannot stop at the first right
  one, since it estimates shares. Read monotone, in rows of their own: all before the last step with a right rollout
  behind it is right as well, which the same rollouts prove.
- omega: binary search for the first error, at most N rollouts from behind a step (OmegaPRM). A chain with the right
  answer takes none.

The last two label one chain of each question, sampled from the embedded policy at T = 1, and a sample is the same in
both ways and for every N: what differs is how many are looked at. The exact labels are local, a calculation with a
misread value counts as right; what all ways mean is the first error, so that steps are compared up to the true one.
Precision and recall are those of "wrong" among these steps; a step without a label is not called wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from atomthink_plugin.named_models import rollout_plan
from atomthink_plugin.runtime.build import build, open_journal
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.tasks.capability.record_set import demo_chains
from atomthink_plugin.tasks.demo.questions import DemoQuestion, held_out
from atomthink_plugin.training.label.estimators import METHODS
from atomthink_plugin.training.label.rollouts import RolloutResult, sample_chains
from atomthink_plugin.training.label.run import hard, label_chains
from atomthink_plugin.training.records import AnsweredQuestion, Chain, RecordFile
from atomthink_plugin.training.tiny.labels import verdicts

NUMBERS = (1, 2, 4, 8, 16)
OPERATIONS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "x": lambda a, b: a * b}


@dataclass(frozen=True)
class Judged:
    """A chain's labels beside the truth."""

    labels: Sequence[float | None]
    truth: Sequence[bool]

    @property
    def said(self) -> int | None:
        return next((i for i, x in enumerate(self.labels) if x is not None and x < 0.5), None)

    @property
    def true(self) -> int | None:
        return next((i for i, right in enumerate(self.truth) if not right), None)


@dataclass(frozen=True)
class Row:
    """One way with one number of rollouts. Shares are of all chains, or of those with a true error."""

    way: str
    n: int | None
    chains: int
    first_error_accuracy: float
    of_wrong_chains: float
    too_early: float
    too_late: float
    precision: float
    recall: float
    rollouts: int = 0
    tokens: int = 0
    cpu_seconds: float | None = None


def row(way: str, n: int | None, judged: Sequence[Judged], **costs: Any) -> Row:
    steps = [(x, right) for j in judged for x, right in zip(j.labels, j.truth[: end(j)], strict=False)]
    flagged = [right for x, right in steps if x is not None and x < 0.5]
    caught = sum(not right for right in flagged)
    never = 10**6  # no error comes after any
    early = [(j.said if j.said is not None else never) < (j.true if j.true is not None else never) for j in judged]
    late = [(j.said if j.said is not None else never) > (j.true if j.true is not None else never) for j in judged]
    return Row(
        way,
        n,
        len(judged),
        first_error_accuracy=fmean(j.said == j.true for j in judged),
        of_wrong_chains=fmean(j.said == j.true for j in judged if j.true is not None),
        too_early=fmean(early),
        too_late=fmean(late),
        precision=caught / max(len(flagged), 1),
        recall=caught / sum(not right for _, right in steps),
        **costs,
    )


def end(judged: Judged) -> int:
    """How many steps are compared: up to the first true error, or all."""
    return len(judged.truth) if judged.true is None else judged.true + 1


# --- the teacher -----------------------------------------------------------------------------------


def taught(question: DemoQuestion, rng: random.Random) -> list[Judged]:
    """A gold chain, and one whose last step the teacher has written wrongly."""
    gold = question.steps
    at = rng.randrange(len(gold))
    wrong = [*gold[:at], slip(question, at, rng)]
    return [
        Judged([1.0] * len(gold), verdicts(question, gold)),
        Judged([*[1.0] * at, 0.0], verdicts(question, wrong)),
    ]


def slip(question: DemoQuestion, at: int, rng: random.Random) -> str:
    """A wrong version of a gold step, by a confusion; nobody looks whether it is right all the same."""
    action, gold = question.plan()[at], question.steps[at]
    others = [item for item in question.figure.items if item[0] != action.name]
    if action.verb == "read":
        name, value = rng.choice(others)
        return f"Step {at + 1}: Read {name if rng.random() < 0.5 else action.name} = {value}."
    if action.verb == "conclude":
        return gold.replace(f" {question.answer}.", f" {rng.choice(question.gold_values()[:-2])}.")
    left, operator, right = gold.split(": Compute ")[1].split(" = ")[0].split(" ")
    other = rng.choice([name for name in OPERATIONS if name != operator])
    return gold.replace(gold.rpartition(" ")[2], f"{OPERATIONS[other](int(left), int(right))}.")


# --- the rollouts ----------------------------------------------------------------------------------


def monotone(labels: Sequence[float | None]) -> list[float | None]:
    """Everything before the last right prefix is right."""
    last = max((i for i, x in enumerate(labels) if x), default=-1)
    return [1.0] * (last + 1) + list(labels[last + 1 :])


def compare(
    source: RecordFile[Chain], demo: Sequence[DemoQuestion], runner: Runner
) -> tuple[list[Row], dict[str, float]]:
    """All rows of the two ways by rollouts, and what limits them."""
    truth = {chain.id: verdicts(demo[int(chain.id[4:].split("/")[0])], chain.steps) for chain in source.records}
    rows: dict[tuple[str, int], Row] = {}
    estimated: dict[int, RolloutResult] = {}
    for n in sorted(NUMBERS, reverse=True):  # the most first: all others are read from the journal
        for way in ("monte_carlo", "omega"):
            cpu = time.process_time()
            found = label_chains(source, runner, METHODS[way], n)
            cpu = time.process_time() - cpu
            if found.rejects:
                raise SystemExit(f"{len(found.rejects)} chains were not labelled; first: {found.rejects[0].reason}")
            judged = [Judged(hard(chain).labels or (), truth[chain.id]) for chain in found.chains]
            costs = {"rollouts": found.cost.samples, "tokens": found.cost.usage.generated}
            fresh = cpu if found.cost.resumed == 0 else None
            rows[way, n] = row(way, n, judged, **costs, cpu_seconds=fresh)
            if way == "monte_carlo":
                estimated[n] = found
                proven = [replace(j, labels=monotone(j.labels)) for j in judged]
                rows["monte_carlo, monotone", n] = row("monte_carlo, monotone", n, proven, **costs)
    most = max(NUMBERS)
    cpu = time.process_time()
    label_chains(source, replace(runner, journal=None), METHODS["omega"], most)
    rows["omega", most] = replace(rows["omega", most], cpu_seconds=time.process_time() - cpu)
    ways = dict.fromkeys(way for way, _ in rows)
    return [rows[way, n] for way in ways for n in NUMBERS], limits(estimated, truth)


def limits(estimated: dict[int, RolloutResult], truth: dict[str, list[bool]]) -> dict[str, float]:
    """How often rollouts say something else than the exact labels do, by prefix; concluded chains are left out."""
    said: dict[str, float] = {}
    for n, found in sorted(estimated.items()):
        right: list[float] = []
        wrong: list[float] = []
        for chain in found.chains:
            for kept, share in enumerate((chain.labels or ())[:-1], start=1):
                (right if all(truth[chain.id][:kept]) else wrong).append(share or 0.0)
        said[f"right_prefixes_never_solved_in_{n}"] = fmean(share == 0 for share in right)
        said[f"wrong_prefixes_solved_in_{n}"] = fmean(share > 0 for share in wrong)
    said["solved_from_right_prefixes"], said["solved_from_wrong_prefixes"] = fmean(right), fmean(wrong)
    return said


def savings(rows: Sequence[Row], against: str) -> list[dict[str, Any]]:
    """For each point of a way: the rollouts that omega needs for the same first-error accuracy, on straight lines."""
    omega = [row for row in rows if row.way == "omega"]
    best: list[dict[str, Any]] = []
    for point in (row for row in rows if row.way == against):
        needed = rollouts_for(omega, point.first_error_accuracy)
        share = None if needed is None else needed / point.rollouts
        best.append({"n": point.n, "accuracy": point.first_error_accuracy, "rollouts": point.rollouts} | {
            "omega_rollouts": needed, "share": share
        })  # fmt: skip
    return best


def rollouts_for(curve: Sequence[Row], accuracy: float) -> float | None:
    """Where a curve first reaches an accuracy; its first point if that is above, None if it never does."""
    if curve[0].first_error_accuracy >= accuracy:
        return curve[0].rollouts
    for low, high in pairwise(curve):
        if high.first_error_accuracy >= accuracy:
            part = (accuracy - low.first_error_accuracy) / (high.first_error_accuracy - low.first_error_accuracy)
            return low.rollouts + part * (high.rollouts - low.rollouts)
    return None


# --- what is shown ---------------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> Table:
    grid = Table(title="step labels against the exact ones")
    headings = ("way", "N", "first error, %", "in wrong chains", "too early", "too late", "precision", "recall")
    for heading in (*headings, "rollouts", "tokens", "CPU s"):
        grid.add_column(heading, justify="left" if heading == "way" else "right", no_wrap=True)
    for r in rows:
        shares = (r.first_error_accuracy, r.of_wrong_chains, r.too_early, r.too_late, r.precision, r.recall)
        costs = (f"{r.rollouts:,}", f"{r.tokens:,}", "" if r.cpu_seconds is None else f"{r.cpu_seconds:.0f}")
        grid.add_row(r.way, str(r.n or ""), *(f"{share * 100:.1f}" for share in shares), *costs)
    return grid


def own_chains(demo: Sequence[DemoQuestion], folder: Path, runner: Runner) -> RecordFile[Chain]:
    made = demo_chains(demo, folder)
    asked = [AnsweredQuestion(**chain.model_dump(include={"id", "question", "images", "answer"})) for chain in made]
    sampled = sample_chains(RecordFile(folder, asked), runner, 1)
    if sampled.rejects:
        raise SystemExit(f"{len(sampled.rejects)} chains were not sampled; first: {sampled.rejects[0].reason}")
    return RecordFile(folder, sampled.chains)


def chain_counts(chains: Sequence[Chain], demo: Sequence[DemoQuestion], runner: Runner) -> dict[str, int]:
    right = [runner.format.answer(chain.steps[-1]) == chain.answer for chain in chains]
    sound = [all(verdicts(question, chain.steps)) for question, chain in zip(demo, chains, strict=True)]
    return {
        "chains": len(chains),
        "right_answer": sum(right),
        "right_by_accident": sum(a and not b for a, b in zip(right, sound, strict=True)),
        "steps": sum(len(chain.steps) for chain in chains),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--seed", type=int, default=78, help="of the held-out questions; the demo task's is 2024")
    parser.add_argument("--journal", help="folder that keeps the rollouts, to go on in after a break")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    demo = held_out(options.questions, options.seed)
    rng = random.Random("teacher")
    teacher = [judged for question in demo for judged in taught(question, rng)]
    with tempfile.TemporaryDirectory() as temporary:
        typed = {"journal": options.journal or str(Path(temporary) / "journal")}
        planned = rollout_plan("atomthink_tiny", typed)
        runner = build(planned)
        journal = open_journal(planned, runner, "label")
        runner = replace(runner, journal=journal)
        source = own_chains(demo, Path(temporary), runner)
        found, noise = compare(source, demo, runner)
        counts = chain_counts(source.records, demo, runner)
    rows = [row("teacher", None, teacher), *found]
    accidents = sum(judged.true is None and judged.said is not None for judged in teacher)
    Console(width=150).print(table(rows))
    print(f"own chains: {counts}\nthe teacher's wrong steps: {len(demo)}, of them right by accident: {accidents}")
    print("rollouts: " + ", ".join(f"{name} {share:.1%}" for name, share in noise.items()))
    saved = {way: savings(rows, way) for way in ("monte_carlo", "monte_carlo, monotone")}
    for way, points in saved.items():
        for p in points:
            share = "never" if p["share"] is None else f"{p['share']:.0%} of the rollouts"
            print(f"omega, as accurate as {way} with N = {p['n']} ({p['accuracy']:.1%}): {share}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        record = {
            "questions": options.questions,
            "seed": options.seed,
            "own_chains": counts,
            "teacher": {"wrong_steps": len(demo), "right_by_accident": accidents},
            "rows": [asdict(r) for r in rows],
            "limits": noise,
            "omega_at_equal_accuracy": saved,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
