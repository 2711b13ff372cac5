"""The commands of the tasks: `demo`, `submit`, `steps` and `atoms`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from atomthink_plugin.options import Count, ModelArgs, Words


def demo(
    *,
    limit: Count = 200,
    modes: Words = ("direct", "cot", "quick", "slow"),
    json: Path | None = None,
) -> None:
    """Compare ways of thinking on the embedded model.

    Answers held-out questions about figures in several modes. Prints a table of accuracy and cost and one example,
    and writes a page with all search trees. Nothing is downloaded.

        atomthink demo --limit 40
        atomthink demo --modes quick slow:majority slow:best_of_n

    Args:
        limit: How many questions, at most 200.
        modes: direct, cot, quick, slow, or slow:SEARCH such as slow:best_of_n.
        json: Also write the rows to this file.
    """
    print("loading torch and the embedded model ...", file=sys.stderr, flush=True)  # takes seconds
    from atomthink_plugin.tasks.demo.run import run_demo

    run_demo(limit, modes, json)


def submit(
    benchmark: Literal["mathvista", "mathverse", "mathvision"],
    run: Path,
    /,
    *,
    task: str | None = None,
    out: Path | None = None,
    allow_incomplete: bool = False,
) -> None:
    """Write a benchmark's official submission file from a run.

    Counts the questions that are missing, failed or without a reply. Without --allow-incomplete nothing is written
    while there are any.

        atomthink submit mathvista out --task mathvista_testmini_cot

    Args:
        benchmark: The benchmark.
        run: Folder of lmms-eval's --output_path (with --log_samples), or a ..._results.json in it.
        task: The task to use, if the run asked a question in several tasks.
        out: The file to write; by default a new file in the folder of the run.
        allow_incomplete: Leave out missing and failed questions and keep empty replies.
    """
    from atomthink_plugin.tasks.submissions.official_files import write_submission

    for file in write_submission(benchmark, run, task, out, allow_incomplete):
        print(file)


def steps(run: Path, /, *, json: Path | None = None) -> None:
    """Measure the quality of a run's atomic steps.

    Works for runs of any model: steps per answer, well-formed chains, repeated steps, tokens per answer, and the step
    scores if a scorer ran.

        atomthink steps out

    Args:
        run: Folder of lmms-eval's --output_path (with --log_samples), or a ..._results.json in it.
        json: Also write the rows and all scored steps to this file.
    """
    from atomthink_plugin.tasks.step_report import write_step_report

    write_step_report(run, json)


def build_atoms(
    chains: str,
    /,
    *,
    out: Path,
    limit: Count | None = None,
    taxonomy: Path | None = None,
    labeller: Literal["words", "llm"] = "words",
    labeller_model: str | None = None,
    base_url: str | None = None,
) -> None:
    """Make a set of records from reference chains.

    Clusters the steps of the chains, maps the clusters to abilities, and writes one record per step: question,
    images, the steps before it, and its ability.

        atomthink atoms build demo --limit 25 --out set.jsonl

    Args:
        chains: JSONL with id, question, images, steps and answer, or `demo` for the gold chains of the demo task.
        out: The set, as JSONL.
        limit: Use only the first chains (demo: of 200).
        taxonomy: YAML or JSON with other abilities than AtomThink's.
        labeller: Name the clusters by keywords, or by a language model.
        labeller_model: With --labeller llm: the model; its key is OPENAI_API_KEY.
        base_url: With --labeller llm: URL of an OpenAI-compatible server.
    """
    from atomthink_plugin.tasks.capability.run import build_record_set

    build_record_set(
        chains,
        out,
        limit=limit,
        taxonomy=taxonomy,
        labeller=labeller,
        labeller_model=labeller_model,
        base_url=base_url,
    )


def evaluate_atoms(
    records: Path,
    /,
    *,
    model: str = "atomthink_tiny",
    model_args: ModelArgs = "",
    rollouts: Count = 10,
    limit: Count | None = None,
    taxonomy: Path | None = None,
    json: Path | None = None,
    html: Path | None = None,
) -> None:
    """Measure how well a model does each kind of step.

    Samples rollouts from every prefix of a set and estimates the quality of each ability.

        atomthink atoms evaluate set.jsonl --model atomthink_tiny --html chart.html

    Args:
        records: A set made by `atomthink atoms build`.
        model: The model, named as for lmms-eval.
        model_args: Its arguments, as for lmms-eval.
        rollouts: Rollouts from each prefix.
        limit: Use only the first chains.
        taxonomy: The taxonomy the set was made with, if not AtomThink's.
        json: Also write the numbers to this file.
        html: Also write a page with a radar chart to this file.
    """
    from atomthink_plugin.plugins.arguments import read_pairs
    from atomthink_plugin.tasks.capability.run import evaluate_record_set

    evaluate_record_set(
        records,
        model=model,
        model_args=read_pairs("--model-args", model_args),
        rollouts=rollouts,
        limit=limit,
        taxonomy=taxonomy,
        json_file=json,
        html_file=html,
    )
