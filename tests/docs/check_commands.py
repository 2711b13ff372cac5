"""Checks command lines of lmms-eval without running them; `test_commands.py` runs it in a process of its own.

Its argument is a file with a JSON list: for each command line, the folder where it is typed and its words. It prints a
JSON list: what is wrong with each, null if nothing is.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
from pathlib import Path

from lmms_eval.__main__ import parse_eval_args
from lmms_eval.models import list_available_models
from lmms_eval.tasks import TaskManager

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.model_adapters.lmms_requests import read_gen_kwargs
from atomthink_plugin.model_adapters.register import CLASSES, model_class

MODELS = set(list_available_models(include_aliases=True))
TASKS = {*TaskManager().all_tasks, "list"}


def tasks_in(folder: str | None) -> set[str]:
    """Returns the names of the tasks in a folder, empty without one."""
    files = Path(folder).glob("*.yaml") if folder else ()
    return {name for file in files for name in re.findall(r"^task: (\S+)", file.read_text(), re.MULTILINE)}


def problem(words: list[str]) -> str | None:
    """Says what lmms-eval, a model or the list of tasks would refuse."""
    sys.argv = ["lmms-eval", *words]
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            _, run = parse_eval_args()
    except SystemExit:
        return errors.getvalue()
    unknown = {*(run.tasks or "").split(",")} - TASKS - tasks_in(run.include_path) - {""}
    if unknown:
        return f"unknown tasks: {unknown}"
    if run.model not in CLASSES:
        return None if run.model in MODELS else f"unknown model: {run.model}"
    try:
        model_class(run.model).check(run.model_args or "", {"batch_size": run.batch_size, "device": run.device})
        read_gen_kwargs(run.gen_kwargs or "")
    except AtomThinkError as error:
        return str(error)
    return None


def main(file: str) -> None:
    """Reads, checks and prints."""
    found = []
    for folder, words in json.loads(Path(file).read_text()):
        os.chdir(folder)
        found.append(problem(words))
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
