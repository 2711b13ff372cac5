"""Reads the results and samples files of a run of lmms-eval."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from atomthink_plugin.api import AtomThinkError

_RESULTS: Final = "_results.json"

State = Literal["answered", "empty", "failed"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of a samples file.

    Attributes:
        task: The task.
        doc_id: The index of the question in the task.
        reply: The scored reply.
        fields: All fields of the line.
    """

    task: str
    doc_id: int
    reply: str
    fields: Mapping[str, Any]

    @property
    def counts(self) -> Mapping[str, Any]:
        """The model's report about its first reply, empty for models without one."""
        return next(iter(self.fields.get("token_counts") or ()), None) or {}

    @property
    def state(self) -> State:
        """Whether the question failed, has an empty reply, or is answered."""
        if self.counts.get("status") == "failed":
            return "failed"
        return "answered" if self.reply.strip() else "empty"


@dataclass(frozen=True, slots=True)
class Run:
    """A results file with its samples files.

    Attributes:
        file: The results file.
        results: Its contents.
        samples: Samples by task, in the order of their questions. A task with several filters (GSM8K: strict and
            flexible) scores each reply several times. Only the samples of the first filter are read.
    """

    file: Path
    results: Mapping[str, Any]
    samples: Mapping[str, Sequence[Sample]]

    def size(self, task: str) -> int:
        """Returns the number of questions in the task's data set, regardless of `--limit`."""
        return int(self.results["n-samples"][task]["original"])


def read_run(path: Path) -> Run:
    """Reads a run.

    Args:
        path: The folder of `--output_path` with one run, or the run's `..._results.json`.

    Raises:
        AtomThinkError: There is no run, more than one run, or a run without samples.
    """
    file = _results_file(path)
    prefix = file.name.removesuffix(_RESULTS) + "_samples_"
    samples = {
        found.stem.removeprefix(prefix): _samples(found, found.stem.removeprefix(prefix))
        for found in sorted(file.parent.glob(f"{prefix}*.jsonl"))
    }
    if not samples:
        raise AtomThinkError(f"{file} has no samples files in its folder. Run lmms-eval with `--log_samples`")
    return Run(file, _json(file.read_text(encoding="utf-8"), file), samples)


def _results_file(path: Path) -> Path:
    if path.is_file() and path.name.endswith(_RESULTS):
        return path
    # Some tasks of lmms-eval write files with this suffix and their own name. The name of a run begins with its date.
    found = sorted(path.rglob(f"[0-9]*_[0-9]*{_RESULTS}")) if path.is_dir() else []
    if not found:
        raise AtomThinkError(
            f"`{path}` does not contain a run (no *{_RESULTS}). Name the folder of lmms-eval's `--output_path`"
        )
    if len(found) > 1:
        raise AtomThinkError(f"`{path}` contains {len(found)} runs. Name one of them: {', '.join(map(str, found))}")
    return found[0]


def _samples(file: Path, task: str) -> list[Sample]:
    lines = file.read_text(encoding="utf-8").split("\n")  # replies may contain other line separators of `splitlines`
    rows = [_json(line, file) for line in lines if line]
    try:
        samples = [Sample(task, int(row["doc_id"]), _reply(row["filtered_resps"]), row) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise AtomThinkError(f"{file} is not a samples file of lmms-eval ({error!r})") from None
    first = {sample.doc_id: sample for sample in reversed(samples)}
    return [first[doc_id] for doc_id in sorted(first)]


def _reply(replies: Any) -> str:
    """Returns the first reply. Other values than text, likelihoods of options for example, are returned as JSON."""
    if isinstance(replies, list) and all(isinstance(reply, str) for reply in replies):
        return str(replies[0]) if replies else ""
    return replies if isinstance(replies, str) else json.dumps(replies, ensure_ascii=False)


def _json(text: str, file: Path) -> dict[str, Any]:
    try:
        read = json.loads(text)
    except ValueError as error:
        raise AtomThinkError(f"{file} is damaged ({error})") from None
    if not isinstance(read, dict):
        raise AtomThinkError(f"{file} is damaged: it should contain objects, not {text[:40]!r}")
    return read
