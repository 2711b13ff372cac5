"""From a run to the official file, with all that is missing told."""

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
from atomthink_plugin.tasks.submissions.builtin_tasks import completed
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
"""Ids count from 1 up to this, by benchmark and split or version. MathVista's two splits have 6,141 together."""


def submit(benchmark: BenchmarkName, run: Path, task: str | None, output: Path | None, incomplete: bool) -> list[Path]:
    """Writes the official files of a benchmark from a run.

    Args:
        benchmark: Which benchmark's.
        run: See `read_run`.
        task: The task whose answers are meant, where the run has several to the same questions.
        output: The file to write; by default one in `submissions`, beside the run's results.
        incomplete: Write the file even if questions are missing, failed or without a reply. The missing and the
            failed are left out then: nothing stands for them.

    Returns:
        The files written: two for MathVerse where its text-only version was run, too.

    Raises:
        AtomThinkError: The run has no answers to this benchmark, answers to unknown questions, several to one
            question, not all of them (unless `incomplete`), or entries that are not as the benchmark wants them.
    """
    read = read_run(run)
    samples = _of(benchmark, read, task)
    _require_known(benchmark, samples)
    _require_complete(benchmark, samples, _unasked(read, samples), incomplete)
    model = str(read.results.get("model_name") or read.results["config"]["model"])
    entries = [_entry(benchmark, sample, model) for sample in samples if sample.state != "failed"]
    if benchmark == "mathvista":
        _tell_differences(entries)
    target = output or read.file.parent / "submissions" / f"output_{benchmark}{_split(samples)}{_SUFFIX[benchmark]}"
    return _write(benchmark, entries, target)


def _of(benchmark: BenchmarkName, run: Run, task: str | None) -> list[Sample]:
    """The samples of a benchmark: of one task, or of several that share no question."""
    tasks = {
        name: samples
        for name, samples in completed(benchmark, run, task).items()
        if samples and all(sample.fields.get("benchmark") == benchmark for sample in samples)
    }
    if task is not None and task not in tasks:
        raise AtomThinkError(f"`--task {task}`: {run.file} has {', '.join(tasks) or 'no task'} of {benchmark}")
    if not tasks:
        raise AtomThinkError(
            f"{run.file} has no answers to {benchmark} that can be submitted, only the tasks {', '.join(run.samples)}: "
            f"run {benchmark}_atomic"
        )
    chosen = tasks if task is None else {task: tasks[task]}
    samples = [sample for name in chosen for sample in chosen[name]]
    if benchmark == "mathvista" and len({_key(benchmark, sample)[0] for sample in samples}) > 1:
        raise AtomThinkError(
            "MathVista's testmini and test are files of their own: name the answers that are meant by --task, one of "
            f"{', '.join(chosen)}"
        )
    twice = [key for key, times in Counter(_key(benchmark, sample) for sample in samples).items() if times > 1]
    if twice:
        raise AtomThinkError(
            f"{len(twice)} questions were answered more than once, the first is {twice[0][-1]}: name the answers that "
            f"are meant by --task, one of {', '.join(chosen)}"
        )
    return samples


def _key(benchmark: BenchmarkName, sample: Sample) -> tuple[str, str]:
    """The split or version of a question, where ids begin anew, and its id."""
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
            known = f"{benchmark} {part}".strip() + (f" has 1 to {last}" if last else " is unknown")
            raise AtomThinkError(f"task {sample.task} has an answer to question {name!r}: {known}")


def _unasked(run: Run, samples: Sequence[Sample]) -> int:
    """How many questions of the tasks' data sets no sample is about."""
    asked: dict[str, set[int]] = {}
    for sample in samples:
        asked.setdefault(sample.task, set()).add(sample.doc_id)
    for task, ids in asked.items():
        if max(ids) >= run.size(task):
            raise AtomThinkError(f"task {task} has an answer to question {max(ids)} of {run.size(task)}, from 0")
    return sum(run.size(task) - len(ids) for task, ids in asked.items())


def _require_complete(benchmark: BenchmarkName, samples: Sequence[Sample], unasked: int, incomplete: bool) -> None:
    states = Counter(sample.state for sample in samples)
    told = (
        f"{benchmark}: {states['answered']} questions answered, {states['empty']} without a reply, "
        f"{states['failed']} failed, {unasked} not asked"
    )
    for sample in samples:
        if sample.state == "failed":
            log.info("%s question %d failed: %s", sample.task, sample.doc_id, sample.counts.get("error"))
    if states["answered"] < len(samples) + unasked and not incomplete:
        raise AtomThinkError(
            f"{told}: nothing is written. Run again, which asks what failed; or pass --allow-incomplete, which leaves "
            "out what failed or was not asked and keeps empty replies as the wrong answers they are"
        )
    log.info("%s", told)


def _entry(benchmark: BenchmarkName, sample: Sample, model: str) -> dict[str, Any]:
    try:
        return ENTRIES[benchmark](sample, model)
    except (ValidationError, KeyError, TypeError) as error:
        raise AtomThinkError(
            f"question {sample.doc_id} of {sample.task} is not as {benchmark} wants it: {error}"
        ) from error


def _tell_differences(entries: Sequence[Mapping[str, Any]]) -> None:
    """MathVista compares letter by letter; an equivalent answer in another form is right for us only."""
    judged = [entry for entry in entries if "true_false" in entry]
    other = [e["pid"] for e in judged if e["true_false"] != (str(e["prediction"]).strip() == str(e["answer"]).strip())]
    if other:
        log.warning(
            "%d verdicts are not those of MathVista's letter-by-letter comparison, which scores the file: pid %s",
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
    apart = target.with_stem(f"{target.stem}_text_only") if with_images else target
    files = [(with_images, target), (text_only, apart)]
    for part, file in files:
        if part:
            _dump(part, file)
    return [file for part, file in files if part]


def _dump(value: Any, file: Path) -> None:
    file.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
