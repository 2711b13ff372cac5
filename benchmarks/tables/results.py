"""The benchmarks, their results files, and helpers for tables of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = "benchmarks/results"

Record = dict[str, Any]


@dataclass(frozen=True)
class Benchmark:
    """One benchmark in the overview.

    Attributes:
        question: What it answers.
        page: Where its table is.
        command: What measured the committed results.
        result: The results file, in `benchmarks/results`.
    """

    question: str
    page: str
    command: str
    result: str

    @property
    def script(self) -> str:
        return f"benchmarks/{self.command.split('benchmarks.')[1].split()[0]}.py"


BENCHMARKS = {
    "held_out": Benchmark(
        "How accurate is each way of thinking, and each search?",
        "accuracy.md#all-ways-of-thinking",
        "python -m benchmarks.held_out --questions 600 --json benchmarks/results/held_out.json",
        "held_out.json",
    ),
    "methods": Benchmark(
        "How do all searches and formats compare?",
        "methods.md#all-searches-and-formats",
        "python -m benchmarks.methods --json benchmarks/results/methods.json --policy forms=DIR",
        "methods.json",
    ),
    "gpu_tiny": Benchmark(
        "What does ten times the training data change?",
        "accuracy.md#more-training-instead-of-search",
        "python -m benchmarks.gpu_tiny --out DIR",
        "held_out.json",
    ),
    "search_cost": Benchmark(
        "What does a beam search cost, compared with the published code?",
        "cost.md#on-a-cpu",
        "python -m benchmarks.search_cost --questions 60 --random-questions 8"
        " --json benchmarks/results/search_cost.json",
        "search_cost.json",
    ),
    "engine_change": Benchmark(
        "What has the slots engine changed?",
        "cost.md#the-slots-engine",
        "python -m benchmarks.engine_change --before ../before --json benchmarks/results/engine_change.json",
        "engine_change.json",
    ),
    "prefix_memory": Benchmark(
        "How much memory do the prompts of several samples take?",
        "cost.md#the-slots-engine",
        "python -m benchmarks.prefix_memory --before ../before --json benchmarks/results/prefix_memory.json",
        "prefix_memory.json",
    ),
    "gpu_search_cost": Benchmark(
        "The same with models of 7 B on a GPU",
        "cost.md#on-a-gpu",
        "python -m benchmarks.gpu_search_cost --json benchmarks/results/gpu_search_cost.json",
        "gpu_search_cost.json",
    ),
    "prm_routes": Benchmark(
        "Which requests to a served PRM use vLLM's prefix cache?",
        "cost.md#routes-to-a-served-prm",
        "python -m benchmarks.prm_routes --json benchmarks/results/prm_routes.json",
        "prm_routes.json",
    ),
    "vllm_throughput": Benchmark(
        "Which share of vLLM's own throughput does a search reach?",
        "cost.md#vllm-in-this-process",
        "python -m benchmarks.vllm_throughput --json benchmarks/results/vllm_throughput.json",
        "vllm_throughput.json",
    ),
    "scale_out": Benchmark(
        "Does one run keep several servers busy?",
        "cost.md#several-servers",
        "python -m benchmarks.scale_out --parts stand_ins servers engines --json benchmarks/results/scale_out.json",
        "scale_out.json",
    ),
    "engine_overhead": Benchmark(
        "What does the engine itself cost?",
        "cost.md#the-engine-without-models",
        "python -m benchmarks.engine_overhead --json benchmarks/results/engine_overhead.json",
        "engine_overhead.json",
    ),
    "journal_cost": Benchmark(
        "What does the journal cost?",
        "cost.md#the-journal",
        "python -m benchmarks.journal_cost --json benchmarks/results/journal_cost.json",
        "journal_cost.json",
    ),
    "families": Benchmark(
        "Which architectures of transformers run, and how?",
        "families.md#how-many-run",
        "python -m benchmarks.families --json benchmarks/results/families.json",
        "families.json",
    ),
    "verdict_agreement": Benchmark(
        "How often do verdicts without a judge agree with official ones?",
        "verdicts.md#agreement",
        "python -m benchmarks.verdict_agreement mathvista/VERDICTS mathvision/VERDICTS"
        " --json benchmarks/results/verdict_agreement.json",
        "verdict_agreement.json",
    ),
    "label_quality": Benchmark(
        "How good are step labels, and what do they cost?",
        "training.md#step-labels",
        "python -m benchmarks.label_quality --questions 200 --json benchmarks/results/label_quality.json",
        "label_quality.json",
    ),
    "gpu_training": Benchmark(
        "What does a training step of a 7 B LLaVA take on a GPU?",
        "training.md#a-training-step-on-a-gpu",
        "python -m benchmarks.gpu_training --json benchmarks/results/gpu_training.json",
        "gpu_training.json",
    ),
    "atomic_capability": Benchmark(
        "Do estimated abilities have the order of the true ones?",
        "capability.md#estimates-and-truth",
        "python -m benchmarks.atomic_capability --questions 60 --json benchmarks/results/atomic_capability.json",
        "atomic_capability.json",
    ),
    "comparison": Benchmark(
        "What does `atomthink compare` show of the demo?",
        "reports.md#a-comparison-of-runs",
        "python -m benchmarks.report_curves --runs FOLDER",
        "comparison.json",
    ),
    "scaling": Benchmark(
        "What does each further candidate bring?",
        "reports.md#a-scaling-curve",
        "python -m benchmarks.report_curves --runs FOLDER",
        "scaling.json",
    ),
    "report_size": Benchmark(
        "How large are pages of `atomthink view`, and how fast?",
        "reports.md#size-and-speed-of-pages",
        "python -m benchmarks.report_size --questions 50 500 5000 --json benchmarks/results/report_size.json",
        "report_size.json",
    ),
    "score_rollouts": Benchmark(
        "How long does `atomthink score` take?",
        "reports.md#scoring-candidates-of-other-runs",
        "python -m benchmarks.score_rollouts --rollouts FILE --json benchmarks/results/score_rollouts.json",
        "score_rollouts.json",
    ),
}


def load(name: str) -> Record:
    """Returns a results file."""
    record: Record = json.loads((ROOT / RESULTS / BENCHMARKS[name].result).read_text())
    return record


def grid(headings: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1) -> str:
    """Returns a Markdown table whose first columns, `left` of them, are aligned to the left."""
    marks = ["---"] * left + ["---:"] * (len(headings) - left)
    lines = [headings, marks, *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def percent(share: float | None, digits: int = 1) -> str:
    return "" if share is None else f"{100 * share:.{digits}f}"


def p_value(p: float) -> str:
    return f"{p:.0e}" if p < 0.01 else f"{p:.2f}"


def with_interval(estimate: Record | None) -> str:
    """Returns an estimate in percent with its interval, empty where there is none."""
    if estimate is None:
        return ""
    return f"{percent(estimate['value'], 0)} [{percent(estimate['low'], 0)}, {percent(estimate['high'], 0)}]"


def source(name: str, where: Record) -> str:
    """Returns what stands below a table: command, machine, date and results file."""
    benchmark = BENCHMARKS[name]
    return (
        f"\n```bash\n{benchmark.command}\n```\n\n{where['machine']}; {where['date']}; `{RESULTS}/{benchmark.result}`\n"
    )


def same_run(name: str) -> str:
    """Returns what stands below a further table of a benchmark: the same as below the first, in one line."""
    benchmark, where = BENCHMARKS[name], load(name)
    return (
        f"\nFrom the same run of `{benchmark.command}`. {where['machine']}; {where['date']}; "
        f"`{RESULTS}/{benchmark.result}`\n"
    )
