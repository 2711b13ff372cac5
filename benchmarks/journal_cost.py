"""The cost of the journal in a run of the embedded model, by part, as shares of the run.

    python -m benchmarks.journal_cost --json benchmarks/results/journal_cost.json

Records are the finished questions with their trees, synced to the disk; thumbnails are made in a thread of their own;
answers are the models' replies to unfinished questions, logged so that a killed run repeats only the requests in
flight. Shares are of CPU time, so other load on the machine does not count.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any, Final
from unittest.mock import patch

from rich.console import Console
from rich.table import Table

from atomthink_plugin.api import Outcome
from atomthink_plugin.config import plan
from atomthink_plugin.model_adapters.tiny import TINY_ARGUMENTS
from atomthink_plugin.runtime import partial_log
from atomthink_plugin.runtime.build import build
from atomthink_plugin.runtime.journal import Journal
from atomthink_plugin.runtime.thumbnails import Thumbnails
from atomthink_plugin.tasks.demo.engine_questions import engine_questions
from atomthink_plugin.tasks.demo.questions import held_out
from benchmarks.provenance import provenance

SEARCHES: Final = ("beam", "majority", "best_of_n")

PARTS: Final[dict[str, tuple[tuple[Any, str], ...]]] = {
    "records": ((Journal, "put"), (Journal, "get")),
    "thumbnails": ((Thumbnails, "keep"),),
    "answers": (
        (partial_log.Recorder, "__init__"),
        (partial_log.PartialLog, "append"),
        (partial_log.PartialLog, "finish"),
        (partial_log, "request_of"),
    ),
}


class Clock:
    """CPU time of functions in one thread, without that of other timed functions that they call."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._inner = 0.0

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            before, self._inner, started = self._inner, 0.0, time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                taken = time.thread_time() - started
                self.seconds[part] += taken - self._inner
                self._inner = before + taken

        return wrapper


@contextlib.contextmanager
def clocks() -> Iterator[tuple[Clock, Clock]]:
    """Times all parts: those of the event loop by one clock, the thread of thumbnails by another."""
    loop, thread = Clock(), Clock()
    with contextlib.ExitStack() as patches:
        for part, functions in PARTS.items():
            clock = thread if part == "thumbnails" else loop
            for owner, name in functions:
                patches.enter_context(patch.object(owner, name, clock.timed(part, getattr(owner, name))))
        yield loop, thread


def measure(search: str, count: int) -> dict[str, float]:
    """One run of `count` questions."""
    runner = build(plan("transformers", {"thinking": "slow", "search": search}, TINY_ARGUMENTS))
    asked = engine_questions(held_out(count, 7))
    replace(runner, concurrency=8).run(asked[:8])  # warm up: work that is done once per process
    with tempfile.TemporaryDirectory() as folder, clocks() as (loop, thread):
        journal = Journal(FilePath(folder), "cost", {})
        started = time.process_time()
        results = replace(runner, journal=journal).run(asked)
        worked = time.process_time() - started
        journal.close()
    assert all(isinstance(result, Outcome) for result in results)
    seconds = {part: loop.seconds[part] + thread.seconds[part] for part in PARTS}
    return {
        "cpu_ms_per_question": 1e3 * worked / count,
        "policy_calls": sum(result.usage.policy_calls for result in results) / count,
        **{f"{part}_percent": 100 * taken / worked for part, taken in seconds.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--json", type=FilePath)
    options = parser.parse_args()
    rows = {search: measure(search, options.questions) for search in SEARCHES}
    grid = Table(title=f"{options.questions} questions, embedded model")
    for heading in ("search", *next(iter(rows.values()))):
        grid.add_column(heading.replace("_", " "), justify="left" if heading == "search" else "right")
    for name, row in rows.items():
        grid.add_row(name, *(f"{value:.2f}" for value in row.values()))
    Console(width=140).print(grid)
    if options.json is not None:
        rounded = {name: {key: round(value, 4) for key, value in row.items()} for name, row in rows.items()}
        record = {**provenance(), "questions": options.questions, **rounded}
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
