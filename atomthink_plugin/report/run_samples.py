"""The results and samples files of a run of lmms-eval."""

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
        task: The task it belongs to.
        doc_id: Which of the task's questions.
        reply: The reply that was scored.
        fields: All of the line.
    """

    task: str
    doc_id: int
    reply: str
    fields: Mapping[str, Any]

    @property
    def counts(self) -> Mapping[str, Any]:
        """What the model reports about its first reply; empty for models that report nothing."""
        return next(iter(self.fields.get("token_counts") or ()), None) or {}

    @property
    def state(self) -> State:
        """Whether the question failed, has an empty reply, or has a reply."""
        if self.counts.get("status") == "failed":
            return "failed"
        return "answered" if self.reply.strip() else "empty"


@dataclass(frozen=True, slots=True)
class Run:
    """A results file and the samples files beside it.

    Attributes:
        file: The results file.
        results: What it holds.
        samples: Samples by task, in the order of their questions. A task that reads replies in several ways (GSM8K:
            strictly and flexibly) has scored each of them several times; the first way's samples are kept.
    """

    file: Path
    results: Mapping[str, Any]
    samples: Mapping[str, Sequence[Sample]]

    def size(self, task: str) -> int:
        """Returns how many questions the task's data set has, whatever `--limit` was."""
        return int(self.results["n-samples"][task]["original"])


def read_run(path: Path) -> Run:
    """Reads a run.

    Args:
        path: The folder that `--output_path` named, if one run is in it, or the run's `..._results.json`.

    Raises:
        AtomThinkError: There is no run, more than one, or one without samples.
    """
    file = _results_file(path)
    prefix = file.name.removesuffix(_RESULTS) + "_samples_"
    samples = {
        found.stem.removeprefix(prefix): _samples(found, found.stem.removeprefix(prefix))
        for found in sorted(file.parent.glob(f"{prefix}*.jsonl"))
    }
    if not samples:
        raise AtomThinkError(f"{file} has no samples beside it: run lmms-eval with --log_samples")
    return Run(file, _json(file.read_text(encoding="utf-8"), file), samples)


def _results_file(path: Path) -> Path:
    if path.is_file() and path.name.endswith(_RESULTS):
        return path
    # Tasks of lmms-eval's own may leave files of that ending, too, named for themselves; a run's is named by its date.
    found = sorted(path.rglob(f"[0-9]*_[0-9]*{_RESULTS}")) if path.is_dir() else []
    if not found:
        raise AtomThinkError(f"`{path}` holds no run (no *{_RESULTS}): name the folder of lmms-eval's --output_path")
    if len(found) > 1:
        raise AtomThinkError(f"`{path}` holds {len(found)} runs; name one of them: {', '.join(map(str, found))}")
    return found[0]


def _samples(file: Path, task: str) -> list[Sample]:
    lines = file.read_text(encoding="utf-8").split("\n")  # replies may hold what `splitlines` takes for a line's end
    rows = [_json(line, file) for line in lines if line]
    try:
        samples = [Sample(task, int(row["doc_id"]), _reply(row["filtered_resps"]), row) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise AtomThinkError(f"{file} is no samples file of lmms-eval: {error!r}") from None
    first = {sample.doc_id: sample for sample in reversed(samples)}
    return [first[doc_id] for doc_id in sorted(first)]


def _reply(replies: Any) -> str:
    """The first reply; anything but text, such as the likelihoods of options, as JSON."""
    if isinstance(replies, list) and all(isinstance(reply, str) for reply in replies):
        return str(replies[0]) if replies else ""
    return replies if isinstance(replies, str) else json.dumps(replies, ensure_ascii=False)


def _json(text: str, file: Path) -> dict[str, Any]:
    try:
        read = json.loads(text)
    except ValueError as error:
        raise AtomThinkError(f"{file} is damaged: {error}") from None
    if not isinstance(read, dict):
        raise AtomThinkError(f"{file} is damaged: an object is expected, not {text[:40]!r}")
    return read
