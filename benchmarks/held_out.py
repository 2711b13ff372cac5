"""Measures all modes of thinking on held-out demo questions: accuracy, cost, paired tests, and the scaling curve.

    python -m benchmarks.held_out --questions 600 --json benchmarks/results/held_out.json

The path-wise searches and pass@N are computed from one set of 16 sampled paths per question. Path i of a question does
not depend on N, so the first N of the 16 paths are those of a run with N. Their PRM calls are the distinct steps of
these paths.

`--policy` and `--prm` replace the embedded checkpoints. `--other-policy NAME=DIR` adds a policy, alone and in beam
search with the PRM: for example those of `atomthink train tiny --only 90 91 92 93` (more training instead of a PRM),
`--only 91 97 98` (fine-tuned on its own right chains) and `--only 99` (fine-tuned on gold chains for the same number of
steps). `--other-prm NAME=DIR` adds searches with another PRM, for example one trained without images (`--only 94 95
96`) or with ten times the data (`gpu_tiny.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from atomthink_plugin.accuracy_stats import mcnemar
from atomthink_plugin.answers import equivalent
from atomthink_plugin.api import Aggregate, Choice, Path, Search, SearchTree, Stopped
from atomthink_plugin.config import plan
from atomthink_plugin.model_adapters.tiny import TINY_ARGUMENTS, WEIGHTS
from atomthink_plugin.runtime.build import build
from atomthink_plugin.runtime.progress import RunProgress
from atomthink_plugin.searches.best_of_n import best_of_n
from atomthink_plugin.searches.majority import majority
from atomthink_plugin.searches.parts.aggregates import AGGREGATES
from atomthink_plugin.searches.weighted import weighted
from atomthink_plugin.tasks.demo.comparison import ModeResult, measure_mode
from atomthink_plugin.tasks.demo.engine_questions import engine_questions
from atomthink_plugin.tasks.demo.questions import DemoQuestion, held_out
from benchmarks.provenance import provenance

SIZES = (1, 2, 4, 8, 16)
FEW = 8
REDUCTIONS: tuple[Aggregate, ...] = ("prod", "mean", "min", "last")
SINGLE = {
    "direct": {"thinking": "direct"},
    "cot": {"thinking": "cot"},
    "quick, greedy": {"thinking": "quick"},
    "quick, T=0.5": {"thinking": "quick", "temperature": 0.5},
    "quick, T=1": {"thinking": "quick", "temperature": 1.0},
    "greedy search, C=3": {"thinking": "slow", "search": "greedy", "candidates": 3},
    "greedy search, C=8": {"thinking": "slow", "search": "greedy", "candidates": 8},
    "greedy search, C=8, T=1": {"thinking": "slow", "search": "greedy", "candidates": 8, "temperature": 1.0},
    "beam, B=2 C=3": {"thinking": "slow", "search": "beam"},
    "beam, B=2 C=4": {"thinking": "slow", "search": "beam", "candidates": 4},
    "beam, B=2 C=3, first_final": {"thinking": "slow", "search": "beam", "stop": "first_final"},
}

ALONE = ("quick, greedy", "quick, T=1", "beam, B=2 C=3")
"""The modes that measure other policies."""

JUDGED = ("greedy search, C=8, T=1", "beam, B=2 C=3")
"""The step-wise searches that measure other PRMs."""


@dataclass
class Replay:
    """A tree of paths that are already sampled and scored; implements `atomthink_plugin.api.SearchTree`."""

    root: Path
    paths: Sequence[Path]
    scores: Sequence[Sequence[float]]

    async def rollouts(self, n: int) -> list[Path]:
        return list(self.paths[:n])

    async def value(self, path: Path, aggregate: Aggregate) -> float:
        scores = self.scores[next(i for i, own in enumerate(self.paths) if own is path)]
        return AGGREGATES[aggregate](scores) if scores else 0.0

    async def score(self, path: Path) -> float:
        return await self.value(path, "last")

    async def expand(self, paths: Sequence[Path], n: int) -> list[list[Path]]:
        raise NotImplementedError("only path-wise searches are replayed")

    def why(self, path: Path) -> Stopped:
        return "final" if path.final else "depth"


def sample(demo: Sequence[DemoQuestion], n: int, models: Mapping[str, Any]) -> tuple[list[Replay], float, float]:
    """Samples and scores `n` paths per question. Returns them, the generated tokens per path, and the seconds."""
    replays: dict[str, Replay] = {}

    async def collect(tree: SearchTree) -> Choice:
        paths = await tree.rollouts(n)
        scores = [await asyncio.gather(*(tree.score(node) for node in path.lineage)) for path in paths]
        replays[tree.root.question.id] = Replay(tree.root, paths, scores)
        return Choice(paths[0], 0.0, tree.why(paths[0]))

    started = time.monotonic()
    # 16 long chains may take more than the default budget of 300 samples.
    typed = {"thinking": "slow", "search": "best_of_n", "budget_calls": None}
    scored = plan("transformers", typed, models)
    runner = replace(build(scored), search=collect)
    questions = engine_questions(demo)
    with RunProgress(len(demo), f"{n} paths") as progress:
        results = runner.run(questions, progress.finished)
    tokens = fmean(result.usage.generated for result in results) / n
    return [replays[question.id] for question in questions], tokens, time.monotonic() - started


def replayed(
    name: str, search: Search, replays: Sequence[Replay], demo: Sequence[DemoQuestion], tokens: float, scored: float
) -> ModeResult:
    """Returns the result of one path-wise search on recorded paths."""

    async def solve() -> list[Choice]:
        return [await search(replay) for replay in replays]

    verdicts = [is_right(choice.path, item) for choice, item in zip(asyncio.run(solve()), demo, strict=True)]
    return ModeResult(name, tuple(verdicts), 0, tokens, scored, 0.0)


def is_right(path: Path, item: DemoQuestion) -> bool:
    return path.answer is not None and equivalent(path.answer, str(item.answer))


def likeliest(n: int) -> Search:
    """Scores by the policy's own likelihood instead of a PRM."""

    async def search(tree: SearchTree) -> Choice:
        path = max(await tree.rollouts(n), key=lambda p: (p.final, sum(step.logprob or 0.0 for step in p.steps)))
        return Choice(path, 0.0, tree.why(path))

    return search


def prm_calls(paths: Sequence[Path], name: str) -> int:
    """Returns the number of distinct scored steps: all steps of the paths, or the last step of each."""
    nodes = paths if name == "best_of_n last" else [node for path in paths for node in path.lineage]
    return len({node.key for node in nodes})


def path_wise(replays: Sequence[Replay], demo: Sequence[DemoQuestion], tokens: float) -> list[ModeResult]:
    unscored: dict[str, Callable[[int], Search]] = {"majority": majority, "policy likelihood": likeliest}
    scored: dict[str, Callable[[int], Search]] = {
        "weighted mean": weighted,
        **{f"best_of_n {r}": lambda n, r=r: best_of_n(n, r) for r in REDUCTIONS},  # type: ignore[misc]
    }
    rows = []
    for name, make in (unscored | scored).items():
        for n in SIZES:
            cost = fmean(prm_calls(r.paths[:n], name) for r in replays) if name in scored else 0.0
            rows.append(replayed(f"{name} @{n}", make(n), replays, demo, n * tokens, cost))
    for n in SIZES:
        passed = [any(is_right(p, item) for p in r.paths[:n]) for r, item in zip(replays, demo, strict=True)]
        rows.append(ModeResult(f"pass @{n}", tuple(passed), 0, n * tokens, 0.0, 0.0))
    return rows


def others(options: argparse.Namespace, demo: Sequence[DemoQuestion], models: Mapping[str, Any]) -> list[ModeResult]:
    """Measures other policies alone and in beam search, and other PRMs on the policy's own paths."""
    rows = []
    for name, policy in options.other_policy:
        theirs = {**models, "pretrained": policy}
        rows += [measure_mode(f"{n}, {name}", demo, SINGLE[n], theirs)[0] for n in ALONE]
    for name, prm in options.other_prm:
        theirs = {**models, "prm": prm}
        rows += [measure_mode(f"{n}, {name}", demo, SINGLE[n], theirs)[0] for n in JUDGED]
        replays, tokens, _ = sample(demo, FEW, theirs)
        for n in (size for size in SIZES if size <= FEW):
            calls = fmean(prm_calls(replay.paths[:n], name) for replay in replays)
            rows.append(
                replayed(f"best_of_n mean @{n}, {name}", best_of_n(n, "mean"), replays, demo, n * tokens, calls)
            )
    return rows


def add(file: FilePath, rows: Sequence[ModeResult]) -> None:
    """Adds rows to those of an earlier run. Rows of the same name are replaced."""
    record = json.loads(file.read_text())
    kept = {row["thinking"]: row for row in record["rows"]}
    first = kept[record["baseline"]]
    baseline = ModeResult(first["thinking"], tuple(right == "1" for right in first["right"]), 0, 0.0, 0.0, 0.0)
    kept |= {row.mode: as_record(row, baseline) | provenance() for row in rows}
    Console(width=140).print(table(rows, baseline))
    file.write_text(json.dumps(record | {"rows": list(kept.values())}, indent=1) + "\n")


def table(rows: Sequence[ModeResult], baseline: ModeResult) -> Table:
    grid = Table(title=f"{len(baseline.right)} held-out questions; p: McNemar against {baseline.mode}")
    for heading in ("thinking", "accuracy", "95 % interval", "won/lost", "p", "tokens/q", "PRM/q", "seconds"):
        grid.add_column(heading, justify="left" if heading == "thinking" else "right", no_wrap=True)
    for row in rows:
        low, high = row.interval
        pair = paired(row, baseline)
        grid.add_row(
            row.mode,
            f"{row.accuracy:.1%}",
            f"{low:.1%} to {high:.1%}",
            f"+{pair['won']} -{pair['lost']}",
            f"{pair['p']:.1g}",
            f"{row.tokens:.0f}",
            f"{row.prm_calls:.1f}",
            f"{row.seconds:.0f}" if row.seconds else "",
        )
    return grid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=600)
    parser.add_argument("--seed", type=int, default=31, help="of the held-out questions; the demo task's is 2024")
    parser.add_argument("--policy", default=TINY_ARGUMENTS["pretrained"])
    parser.add_argument("--prm", default=TINY_ARGUMENTS["prm"])
    parser.add_argument("--other-policy", nargs="*", type=named, default=[], metavar="NAME=DIR")
    parser.add_argument("--other-prm", nargs="*", type=named, default=[], metavar="NAME=DIR")
    parser.add_argument("--json", type=FilePath)
    parser.add_argument("--add", action="store_true", help="only the others, added to the rows that JSON has")
    options = parser.parse_args()
    names = [name for name, _ in (*options.other_policy, *options.other_prm)]
    if len(set(names)) < len(names):
        parser.error(f"`--other-policy` and `--other-prm` need a name of its own for each: {', '.join(names)}")
    demo = held_out(options.questions, options.seed)
    models = {**TINY_ARGUMENTS, "pretrained": options.policy, "prm": options.prm}
    if options.add:
        add(options.json, others(options, demo, models))
        return
    rows = [measure_mode(name, demo, arguments, models)[0] for name, arguments in SINGLE.items()]
    baseline = max((row for row in rows if row.mode.startswith("quick")), key=lambda row: row.accuracy)
    rows += others(options, demo, models)
    replays, tokens, seconds = sample(demo, max(SIZES), models)
    rows += path_wise(replays, demo, tokens)
    beam = next(row for row in rows if row.mode == "beam, B=2 C=3")
    equal = next(n for n in range(1, 17) if n * tokens >= beam.tokens or n == 16)
    voted = replayed(f"majority @{equal} (beam's tokens)", majority(equal), replays, demo, equal * tokens, 0.0)
    rows.append(voted)
    Console(width=140).print(table(rows, baseline))
    print(f"{max(SIZES)} scored paths per question took {seconds:.0f} s")
    won = paired(beam, voted)
    print(f"beam against {voted.mode}: {won}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        record = {
            "questions": len(demo),
            "seed": options.seed,
            "policy": name_of(options.policy),
            "prm": name_of(options.prm),
            **provenance(),
            "seconds_for_16_scored_paths": round(seconds, 1),
            "baseline": baseline.mode,
            "beam_against_majority_at_equal_tokens": won,
            "rows": [as_record(row, baseline) for row in rows],
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")


def named(argument: str) -> tuple[str, str]:
    name, _, folder = argument.partition("=")
    if not folder:
        raise argparse.ArgumentTypeError(f"{argument!r}: NAME=DIR is expected")
    return name, folder


def name_of(model: str) -> str:
    """Returns the settings with names of the embedded models instead of paths of this machine."""
    return "embedded" if FilePath(model).is_relative_to(WEIGHTS) else model


def paired(row: ModeResult, other: ModeResult) -> dict[str, float]:
    """Returns how often only one of two rows is right, and McNemar's p-value."""
    pairs = list(zip(row.right, other.right, strict=True))
    won, lost = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    return {"won": won, "lost": lost, "p": mcnemar(row.right, other.right)}


def as_record(row: ModeResult, baseline: ModeResult) -> dict[str, Any]:
    return {
        "thinking": row.mode,
        "accuracy": round(row.accuracy, 4),
        "interval": [round(bound, 4) for bound in row.interval],
        "against_baseline": paired(row, baseline),
        "tokens_per_question": round(row.tokens, 1),
        "prm_calls_per_question": round(row.prm_calls, 2),
        "seconds": round(row.seconds, 1),
        "right": "".join("01"[right] for right in row.right),
    }


if __name__ == "__main__":
    main()
