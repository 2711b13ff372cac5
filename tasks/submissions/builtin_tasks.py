"""Answers to lmms-eval's own tasks, completed with what a submission needs and their samples do not have."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.report.run_samples import Run, Sample
from atomthink_plugin.report.verdicts import Verdicts
from atomthink_plugin.tasks.benchmarks.benchmark import Benchmark, BenchmarkName, Document
from atomthink_plugin.tasks.benchmarks.mathvision.task import MATHVISION
from atomthink_plugin.tasks.scoring.judges import judge

log = logging.getLogger(__name__)

_BENCHMARKS: Final[Mapping[BenchmarkName, Benchmark]] = {"mathvision": MATHVISION}


def completed(benchmark: BenchmarkName, run: Run, task: str | None) -> dict[str, Sequence[Sample]]:
    """Returns the run's samples by task, those of lmms-eval's own tasks of the benchmark with our tasks' fields.

    Their replies are judged by the same rules as those of our tasks, so that both give the same file.

    Args:
        benchmark: Which benchmark's tasks are completed.
        run: The run.
        task: The only task that is needed, None for all.

    Raises:
        AtomThinkError: The data set is not on this machine, or is another one than the run's.
    """
    known = _BENCHMARKS.get(benchmark)
    found = dict(run.samples)
    for name, samples in run.samples.items():
        config = run.results.get("configs", {}).get(name, {})
        own = any("benchmark" in sample.fields for sample in samples)
        if known is not None and task in (None, name) and not own and config.get("dataset_path") == known.dataset:
            found[name] = _judged(known, run, name, _documents(known, name, config))
    return found


def _documents(benchmark: Benchmark, task: str, config: Mapping[str, Any]) -> Sequence[Document]:
    from datasets import load_dataset

    try:
        documents = load_dataset(benchmark.dataset, config.get("dataset_name"), split=config["test_split"])
        return list(documents.select_columns(list(benchmark.fields)))
    except Exception as error:
        raise AtomThinkError(
            f"task `{task}` is lmms-eval's own, and its samples do not have the questions' ids: they are read from the "
            f"data set `{benchmark.dataset}`, which cannot be loaded here ({type(error).__name__}: {error}). Run "
            f"`submit` in the folder and with the HF_HOME that lmms-eval was run with"
        ) from error


def _judged(benchmark: Benchmark, run: Run, task: str, documents: Sequence[Document]) -> list[Sample]:
    verdicts = Verdicts(run, task)
    completed, other = [], 0
    for sample in run.samples[task]:
        if sample.doc_id >= len(documents) or str(documents[sample.doc_id]["answer"]) != sample.fields.get("target"):
            raise AtomThinkError(
                f"question {sample.doc_id} of task `{task}` is not in the data set `{benchmark.dataset}` on this "
                "machine, or has another answer there: use the version of the data set that the run used"
            )
        record = benchmark.record(documents[sample.doc_id])
        verdict = judge(benchmark.name, record, sample.reply) if sample.reply.strip() else None
        correct = verdict is not None and verdict.correct
        other += verdicts.of(sample) not in (None, correct)
        fields = {
            "benchmark": benchmark.name,
            "question": record,
            "extracted": verdict and verdict.extracted,
            "normalized": verdict and verdict.normalized,
            "correct": correct,
        }
        completed.append(Sample(task, sample.doc_id, sample.reply, {**sample.fields, **fields}))
    if other:
        log.warning(
            "%d of %d verdicts in the file are not those of `%s`: replies are judged by this plugin's rules",
            *(other, len(completed), task),
        )
    return completed
