"""Adds the fields that a submission needs to the samples of lmms-eval's own tasks."""

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


def completed_samples(benchmark: BenchmarkName, run: Run, task: str | None) -> dict[str, Sequence[Sample]]:
    """Returns the run's samples by task. Samples of lmms-eval's own tasks get the fields of our tasks.

    Their replies are judged by the same rules as those of our tasks, so both give the same file.

    Args:
        benchmark: The benchmark whose tasks are completed.
        run: The run.
        task: The task to complete, None for all tasks of the benchmark.

    Raises:
        AtomThinkError: The data set cannot be loaded, or differs from the run's.
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
            f"task `{task}` is lmms-eval's own, and its samples have no ids of the questions. They are read from the "
            f"data set `{benchmark.dataset}`, which cannot be loaded ({type(error).__name__}: {error}). Run "
            "`submit` in the same folder and with the same HF_HOME as lmms-eval"
        ) from error


def _judged(benchmark: Benchmark, run: Run, task: str, documents: Sequence[Document]) -> list[Sample]:
    verdicts = Verdicts(run, task)
    completed, different = [], 0
    for sample in run.samples[task]:
        if sample.doc_id >= len(documents) or str(documents[sample.doc_id]["answer"]) != sample.fields.get("target"):
            raise AtomThinkError(
                f"question {sample.doc_id} of task `{task}` is not in the data set `{benchmark.dataset}`, or has "
                "another answer there. Use the version of the data set that the run used"
            )
        record = benchmark.record(documents[sample.doc_id])
        verdict = judge(benchmark.name, record, sample.reply) if sample.reply.strip() else None
        correct = verdict is not None and verdict.correct
        different += verdicts.of(sample) not in (None, correct)
        fields = {
            "benchmark": benchmark.name,
            "question": record,
            "extracted": verdict and verdict.extracted,
            "normalized": verdict and verdict.normalized,
            "correct": correct,
        }
        completed.append(Sample(task, sample.doc_id, sample.reply, {**sample.fields, **fields}))
    if different:
        log.warning(
            "%d of %d verdicts in the file differ from those of `%s`: replies are judged by this plugin's rules",
            *(different, len(completed), task),
        )
    return completed
