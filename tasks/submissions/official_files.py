"""Writes the official submission files of a benchmark from a run."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.report.run_samples import Run, Sample, read_run
from atomthink_plugin.tasks.benchmarks.benchmark import BenchmarkName
from atomthink_plugin.tasks.submissions.builtin_tasks import completed_samples
from atomthink_plugin.tasks.submissions.entries import ENTRIES

log = logging.getLogger(__name__)

TEXT_ONLY: Final = "Text Only"

LAST_ID: Final = {
    ("mathvista", "testmini"): 1000,
    ("mathvista", "test"): 6141,
    ("mathverse", TEXT_ONLY): 788,
    ("mathverse", ""): 3940,
    ("mathvision", ""): 3040,
}
"""The last id by benchmark and split or version. Ids start at 1. MathVista's two splits have 6,141 together."""


def write_submission(
    benchmark: BenchmarkName, run: Path, task: str | None, out: Path | None, allow_incomplete: bool
) -> list[Path]:
    """Writes the official files of a benchmark from a run.

    Args:
        benchmark: The benchmark.
        run: A results file of lmms-eval or a folder with one; see `read_run`.
        task: The task to use, if several tasks of the run have the same questions.
        out: The file to write; by default a file in `submissions`, next to the run's results.
        allow_incomplete: Write the file even if questions are missing, failed or without a reply. Missing and failed
            questions have no entry then.

    Returns:
        The written files: two for MathVerse if the run has its text-only version and others.

    Raises:
        AtomThinkError: The run has no answers to this benchmark, answers to unknown questions, or several answers to a
            question. Or answers are missing without `allow_incomplete`, or an entry does not have the official form.
    """
    read = read_run(run)
    samples = _chosen_samples(benchmark, read, task)
    _require_known(benchmark, samples)
    _require_complete(benchmark, samples, _count_unasked(read, samples), allow_incomplete)
    model = str(read.results.get("model_name") or read.results["config"]["model"])
    entries = [_entry(benchmark, sample, model) for sample in samples if sample.state != "failed"]
    if benchmark == "mathvista":
        _warn_of_differences(entries)
    target = out or read.file.parent / "submissions" / f"output_{benchmark}{_split(samples)}{_SUFFIX[benchmark]}"
    return _write(benchmark, entries, target)


def _chosen_samples(benchmark: BenchmarkName, run: Run, task: str | None) -> list[Sample]:
    """Returns the samples of one task, or of several tasks without common questions."""
    tasks = {
        name: samples
        for name, samples in completed_samples(benchmark, run, task).items()
        if samples and all(sample.fields.get("benchmark") == benchmark for sample in samples)
    }
    if task is not None and task not in tasks:
        raise AtomThinkError(
            f"`--task {task}`: the tasks of {benchmark} in {run.file} are {', '.join(tasks) or 'none'}"
        )
    if not tasks:
        raise AtomThinkError(
            f"{run.file} has no answers to {benchmark} that can be submitted. Its tasks are {', '.join(run.samples)}. "
            f"Run {benchmark}_atomic"
        )
    chosen = tasks if task is None else {task: tasks[task]}
    samples = [sample for name in chosen for sample in chosen[name]]
    if benchmark == "mathvista" and len({_key(benchmark, sample)[0] for sample in samples}) > 1:
        raise AtomThinkError(
            f"MathVista's splits testmini and test need separate files. Choose one with `--task`: {', '.join(chosen)}"
        )
    twice = [key for key, times in Counter(_key(benchmark, sample) for sample in samples).items() if times > 1]
    if twice:
        raise AtomThinkError(
            f"{len(twice)} questions have several answers, the first one is question {twice[0][-1]}. Choose a task "
            f"with `--task`: {', '.join(chosen)}"
        )
    return samples


def _key(benchmark: BenchmarkName, sample: Sample) -> tuple[str, str]:
    """Returns the split or version of a question and its id, which is unique in that split or version."""
    question = sample.fields["question"]
    if benchmark == "mathvista":
        return str(question["metadata"].get("split", "testmini")), str(question["pid"])
    if benchmark == "mathverse":
        return (TEXT_ONLY if question["problem_version"] == TEXT_ONLY else "", str(question["sample_index"]))
    return "", str(question["id"])


def _require_known(benchmark: BenchmarkName, samples: Sequence[Sample]) -> None:
    for sample in samples:
        part, name = _key(benchmark, sample)
        last = LAST_ID.get((benchmark, part))
        if last is None or not (name.isascii() and name.isdigit() and 1 <= int(name) <= last):
            known = f"{benchmark} {part}".strip() + (f" has questions 1 to {last}" if last else " is unknown")
            raise AtomThinkError(f"task `{sample.task}` has an answer to question {name!r}, but {known}")


def _count_unasked(run: Run, samples: Sequence[Sample]) -> int:
    """Returns the number of questions in the tasks' data sets that have no sample."""
    asked: dict[str, set[int]] = {}
    for sample in samples:
        asked.setdefault(sample.task, set()).add(sample.doc_id)
    for task, ids in asked.items():
        if max(ids) >= run.size(task):
            raise AtomThinkError(
                f"task `{task}` has an answer to question {max(ids)}, but only {run.size(task)} questions"
            )
    return sum(run.size(task) - len(ids) for task, ids in asked.items())


def _require_complete(
    benchmark: BenchmarkName, samples: Sequence[Sample], unasked: int, allow_incomplete: bool
) -> None:
    states = Counter(sample.state for sample in samples)
    counts = (
        f"{benchmark}: {states['answered']} questions answered, {states['empty']} without a reply, "
        f"{states['failed']} failed, {unasked} not asked"
    )
    for sample in samples:
        if sample.state == "failed":
            log.info("%s question %d failed: %s", sample.task, sample.doc_id, sample.counts.get("error"))
    if states["answered"] < len(samples) + unasked and not allow_incomplete:
        raise AtomThinkError(
            f"{counts}. Nothing is written. Run lmms-eval again to repeat the failed questions, or pass "
            "`--allow-incomplete` to leave out failed and missing questions and to count empty replies as wrong"
        )
    log.info("%s", counts)


def _entry(benchmark: BenchmarkName, sample: Sample, model: str) -> dict[str, Any]:
    try:
        return ENTRIES[benchmark](sample, model)
    except (ValidationError, KeyError, TypeError) as error:
        raise AtomThinkError(
            f"question {sample.doc_id} of task `{sample.task}` does not have the official form of {benchmark}: {error}"
        ) from error


def _warn_of_differences(entries: Sequence[Mapping[str, Any]]) -> None:
    """Warns of answers in another form than the reference, which MathVista's comparison of texts counts as wrong."""
    with_verdict = [entry for entry in entries if "true_false" in entry]
    other = [
        e["pid"] for e in with_verdict if e["true_false"] != (str(e["prediction"]).strip() == str(e["answer"]).strip())
    ]
    if other:
        log.warning(
            "%d verdicts differ from MathVista's own comparison of texts, which will score the file: pid %s",
            *(len(other), ", ".join(other[:10])),
        )


_SUFFIX: Final = {"mathvista": ".json", "mathverse": ".json", "mathvision": ".jsonl"}


def _split(samples: Sequence[Sample]) -> str:
    names = {sample.task for sample in samples}
    return f"_{names.pop()}" if len(names) == 1 else ""


def _write(benchmark: BenchmarkName, entries: Sequence[dict[str, Any]], target: Path) -> list[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    if benchmark == "mathvista":
        _dump({entry["pid"]: entry for entry in sorted(entries, key=lambda entry: int(entry["pid"]))}, target)
        return [target]
    if benchmark == "mathvision":
        ordered = sorted(entries, key=lambda entry: int(entry["id"]))
        target.write_text("".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in ordered), encoding="utf-8")
        return [target]
    ordered = sorted(entries, key=lambda entry: int(entry["sample_index"]))
    text_only = [entry for entry in ordered if entry["problem_version"] == TEXT_ONLY]
    with_images = [entry for entry in ordered if entry["problem_version"] != TEXT_ONLY]
    separate = target.with_stem(f"{target.stem}_text_only") if with_images else target
    files = [(with_images, target), (text_only, separate)]
    for part, file in files:
        if part:
            _dump(part, file)
    return [file for part, file in files if part]


def _dump(value: Any, file: Path) -> None:
    file.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
