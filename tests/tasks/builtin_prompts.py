"""Compares lmms-eval's own tasks with the tasks that replace them; `test_builtin_tasks.py` runs it in a process.

One process does everything, because importing lmms-eval's tasks is slow. It writes one JSON object to the file in its
first argument. Its working directory has the data of `tiny_benchmarks`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["OPENAI_API_KEY"] = "EMPTY"  # the built-in tasks build their judge while they are imported

import lmms_eval.models  # noqa: F401  # runs the entry point, as the command line does
from lmms_eval.tasks import TaskManager
from lmms_eval.utils import load_yaml_config

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.tasks import harness_patches

# Not `dataset_kwargs`: theirs demand a login, for data sets that anyone may read.
COMPARED = ("dataset_path", "dataset_name", "test_split", "output_type", "generation_kwargs",
            "model_specific_generation_kwargs", "doc_to_target")  # fmt: skip
SAME_PROMPT = {
    "mathvista_atomic_testmini": "mathvista_testmini_cot",
    "mathvision_atomic_testmini": "mathvision_testmini",
}


def taken(keys: dict[str, str]) -> list[str]:
    """Returns the names of built-in tasks that a new task manager replaces, with only these variables set."""
    for name in ("OPENAI_API_KEY", "AZURE_API_KEY", "API_TYPE", harness_patches.KEEP_BUILTIN):
        os.environ.pop(name, None)
    os.environ.update(keys)
    index = TaskManager().task_index
    ours = str(harness_patches.BUILTIN)
    found = [name for name, entry in index.items() if str(entry["yaml_path"]).startswith(ours)]
    for name in keys:
        os.environ.pop(name, None)
    return sorted(found)


def asked(task: Any) -> list[Any]:
    """Returns the prompts of a task's documents, and the sizes of their images."""
    docs = list(task.task_docs)
    return [[task.doc_to_text(doc), [image.size for image in task.doc_to_visual(doc)]] for doc in docs]


def loaded(manager: TaskManager, name: str) -> Any:
    return manager.load_task_or_group([name], "chat")[name]


def compare() -> dict[str, Any]:
    """Returns the prompts and the settings of the built-in task and of ours, by name."""
    os.environ["OPENAI_API_KEY"] = "EMPTY"
    manager = TaskManager()
    files = {file.stem: str(file) for file in harness_patches.BUILTIN.glob("*.yaml")}
    found = {}
    for name, file in files.items():
        theirs = loaded(manager, name)
        settings = [load_yaml_config(path, mode="simple") for path in (manager.task_index[name]["yaml_path"], file)]
        manager.task_index[name]["yaml_path"] = file
        ours = loaded(manager, name)
        chosen = [{key: one.get(key) for key in COMPARED} for one in settings]
        found[name] = {"asked": [asked(theirs), asked(ours)], "settings": chosen}
    for name, builtin in SAME_PROMPT.items():
        manager = TaskManager()
        found[name] = {"asked": [asked(loaded(manager, builtin)), asked(loaded(manager, name))], "settings": [1, 1]}
    return found


def errors(root: Path) -> dict[str, str]:
    """Returns the errors of loading from folders with missing data."""
    manager = TaskManager()
    said = {}
    for folder in sorted(root.iterdir()):
        os.chdir(folder)
        try:
            manager.load_task_or_group(["mathvista_atomic_test"], "chat")
        except AtomThinkError as error:
            said[folder.name] = str(error)
    return said


if __name__ == "__main__":
    assert harness_patches.NO_TASKS not in os.environ
    report = {
        "taken": {
            "keyless": taken({}),
            "keyed": taken({"OPENAI_API_KEY": "x"}),
            "azure without its key": taken({"API_TYPE": "azure", "OPENAI_API_KEY": "x"}),
            "azure": taken({"API_TYPE": "azure", "AZURE_API_KEY": "x"}),
            "local": taken({"API_TYPE": "local"}),
            "opted out": taken({harness_patches.KEEP_BUILTIN: "1"}),
        },
        "compared": compare(),
        "errors": errors(Path(sys.argv[2])),
    }
    Path(sys.argv[1]).write_text(json.dumps(report))
