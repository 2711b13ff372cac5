"""How good are step labels, and what do they cost? Compares three methods with the demo task's exact labels.

    python -m benchmarks.label_quality --questions 200 --json benchmarks/results/label_quality.json

- teacher: gold chains, complete or cut after a step that a scripted teacher corrupts (AtomThink's method). The labels
  follow from the construction. The teacher confuses items, operators and results and does not verify the outcome, so
  some of its wrong steps are right by accident.
- monte_carlo: N rollouts after every step (Math-Shepherd, hard labels). It estimates shares, so it cannot stop at the
  first right rollout. The rows `monotone` use the same rollouts and count every step before the last prefix with a
  right rollout as right.
- omega: binary search for the first error, at most N rollouts after a step (OmegaPRM). A chain with the right answer
  needs none.

The last two label one chain per question, sampled from the embedded policy at T = 1. Both methods and all N use the
same samples and differ in how many of them they use. The exact labels are local: a calculation with a misread value
counts as right. All methods look for the first error, so steps are compared up to the true first error.
Precision and recall are those of "wrong" among these steps; a step without a label is not called wrong.
"""

from __future__ import annotations

import argparse
import json
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
from atomthink_plugin.training.label.run import label_chains
from atomthink_plugin.training.records import AnsweredQuestion, Chain, RecordFile
from atomthink_plugin.training.tiny.labels import verdicts
from benchmarks.provenance import provenance

NUMBERS = (1, 2, 4, 8, 16)
OPERATIONS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "x": lambda a, b: a * b}


@dataclass(frozen=True)
class LabelledChain:
    """A chain's estimated labels and its exact ones."""

    labels: Sequence[float | None]
    truth: Sequence[bool]

    @property
    def first_error(self) -> int | None:
        return next((i for i, x in enumerate(self.labels) if x is not None and x < 0.5), None)

    @property
    def true_first_error(self) -> int | None:
        return next((i for i, right in enumerate(self.truth) if not right), None)


@dataclass(frozen=True)
class Row:
    """One method with one number of rollouts. Shares are of all chains, or of those with a true error."""

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


def row(way: str, n: int | None, chains: Sequence[LabelledChain], **costs: Any) -> Row:
    steps = [(x, right) for j in chains for x, right in zip(j.labels, j.truth[: end(j)], strict=False)]
    flagged = [right for x, right in steps if x is not None and x < 0.5]
    caught = sum(not right for right in flagged)
    never = 10**6  # no error comes after any
    errors = [
        (never if j.first_error is None else j.first_error, never if j.true_first_error is None else j.true_first_error)
        for j in chains
    ]
    return Row(
        way,
        n,
        len(chains),
        first_error_accuracy=fmean(found == true for found, true in errors),
        of_wrong_chains=fmean(j.first_error == j.true_first_error for j in chains if j.true_first_error is not None),
        too_early=fmean(found < true for found, true in errors),
        too_late=fmean(found > true for found, true in errors),
        precision=caught / max(len(flagged), 1),
        recall=caught / sum(not right for _, right in steps),
        **costs,
    )


def end(chain: LabelledChain) -> int:
    """How many steps are compared: up to the first true error, or all."""
    return len(chain.truth) if chain.true_first_error is None else chain.true_first_error + 1


# --- the teacher -----------------------------------------------------------------------------------


def teacher_chains(question: DemoQuestion, rng: random.Random) -> list[LabelledChain]:
    """A gold chain, and one whose last step the teacher corrupts."""
    gold = question.steps
    at = rng.randrange(len(gold))
    wrong = [*gold[:at], corrupted(question, at, rng)]
    return [
        LabelledChain([1.0] * len(gold), verdicts(question, gold)),
        LabelledChain([*[1.0] * at, 0.0], verdicts(question, wrong)),
    ]


def corrupted(question: DemoQuestion, at: int, rng: random.Random) -> str:
    """A wrong version of a gold step, by a confusion; it may be right by accident."""
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
    """All rows of the two methods that use rollouts, and the limits of rollouts."""
    truth = {chain.id: verdicts(demo[int(chain.id[4:].split("/")[0])], chain.steps) for chain in source.records}
    rows: dict[tuple[str, int], Row] = {}
    estimated: dict[int, RolloutResult] = {}
    for n in sorted(NUMBERS, reverse=True):  # the largest first: the others are read from the journal
        for way in ("monte_carlo", "omega"):
            cpu = time.process_time()
            found = label_chains(source, runner, METHODS[way], n)
            cpu = time.process_time() - cpu
            if found.rejects:
                raise SystemExit(f"{len(found.rejects)} chains were not labelled; first: {found.rejects[0].reason}")
            labelled = [LabelledChain(chain.with_hard_labels().labels or (), truth[chain.id]) for chain in found.chains]
            costs = {"rollouts": found.cost.samples, "tokens": found.cost.usage.generated}
            fresh = cpu if found.cost.resumed == 0 else None
            rows[way, n] = row(way, n, labelled, **costs, cpu_seconds=fresh)
            if way == "monte_carlo":
                estimated[n] = found
                proven = [replace(j, labels=monotone(j.labels)) for j in labelled]
                rows["monte_carlo, monotone", n] = row("monte_carlo, monotone", n, proven, **costs)
    most = max(NUMBERS)
    cpu = time.process_time()
    label_chains(source, replace(runner, journal=None), METHODS["omega"], most)
    rows["omega", most] = replace(rows["omega", most], cpu_seconds=time.process_time() - cpu)
    ways = dict.fromkeys(way for way, _ in rows)
    return [rows[way, n] for way in ways for n in NUMBERS], limits(estimated, truth)


def limits(estimated: dict[int, RolloutResult], truth: dict[str, list[bool]]) -> dict[str, float]:
    """How often rollouts disagree with the exact labels, by prefix; concluded chains are left out."""
    shares: dict[str, float] = {}
    for n, found in sorted(estimated.items()):
        right: list[float] = []
        wrong: list[float] = []
        for chain in found.chains:
            for kept, share in enumerate((chain.labels or ())[:-1], start=1):
                (right if all(truth[chain.id][:kept]) else wrong).append(share or 0.0)
        shares[f"right_prefixes_never_solved_in_{n}"] = fmean(share == 0 for share in right)
        shares[f"wrong_prefixes_solved_in_{n}"] = fmean(share > 0 for share in wrong)
    shares["solved_from_right_prefixes"], shares["solved_from_wrong_prefixes"] = fmean(right), fmean(wrong)
    return shares


def savings(rows: Sequence[Row], against: str) -> list[dict[str, Any]]:
    """For each row of a method: the rollouts that omega needs for the same first-error accuracy, interpolated."""
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
    """Rollouts at which a curve first reaches an accuracy; None if it never does."""
    if curve[0].first_error_accuracy >= accuracy:
        return curve[0].rollouts
    for low, high in pairwise(curve):
        if high.first_error_accuracy >= accuracy:
            part = (accuracy - low.first_error_accuracy) / (high.first_error_accuracy - low.first_error_accuracy)
            return low.rollouts + part * (high.rollouts - low.rollouts)
    return None


# --- what is shown ---------------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> Table:
    grid = Table(title="step labels compared with the exact labels")
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
    parser.add_argument("--journal", help="folder with the rollouts; a stopped run continues from it")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    demo = held_out(options.questions, options.seed)
    rng = random.Random("teacher")
    teacher = [chain for question in demo for chain in teacher_chains(question, rng)]
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
    accidents = sum(chain.true_first_error is None and chain.first_error is not None for chain in teacher)
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
            **provenance(),
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
