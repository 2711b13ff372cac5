"""Run by `test_command_line.py` in a process of its own: many command lines of lmms-eval, which is imported once.

Prints a JSON list: for each command line the exit status and what it said on standard error. Reading the task files
fails, so that a run that gets so far ends with another error.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import sys
from typing import Any

from lmms_eval.cli.dispatch import main


class TasksAreReadError(Exception):
    """A run came as far as the task files."""


def fail(*arguments: Any, **named: Any) -> None:
    raise TasksAreReadError


def status_of(line: list[str]) -> tuple[Any, str]:
    sys.argv = ["lmms-eval", *line]
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        try:
            main()
        except SystemExit as end:
            return end.code, errors.getvalue()
    return None, errors.getvalue()


def from_python() -> tuple[str, str]:
    """What a call from Python raises for a mistake."""
    from lmms_eval import evaluator

    try:
        evaluator.simple_evaluate(
            model="atomthink_tiny", model_args="serach=beam", tasks=["atomthink_demo"], task_manager=object()
        )
    except BaseException as error:
        return type(error).__name__, str(error)
    return "", ""


if __name__ == "__main__":
    lines = json.loads(sys.argv[1])
    status_of(["--help"])  # imports all of lmms-eval as its command line does
    importlib.import_module("lmms_eval.__main__").TaskManager = fail  # type: ignore[attr-defined]
    print(json.dumps([*map(status_of, lines), from_python()]))
