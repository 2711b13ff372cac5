"""The patches of the task manager, on managers like lmms-eval's; the real one: `test_builtin_scorers.py`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from loguru import logger

from atomthink_plugin.tasks import harness_patches

OURS = str(harness_patches.TASKS)

HARNESS = """
class TaskManager:
    def initialize_tasks(self, include_path=None, include_defaults=True):
        index = {"shared": "harness"} if include_defaults else {}
        for path in [include_path] if isinstance(include_path, str) else include_path or ():
            index = {**self._get_task_and_group(path), **index}
        return index

    def _get_task_and_group(self, task_dir):
        if "unreadable" in task_dir:
            raise ValueError("cannot read a task")
        entry = {"type": "task", "yaml_path": task_dir + "/task.yaml"}
        return {"shared": entry, "not the harness's": entry, task_dir: entry}

    def _load_individual_task_or_group(self, name_or_config=None):
        raise KeyError("no data")
"""

WITH_ENTRY_POINTS = HARNESS.replace(
    "        return index",
    """        from atomthink_plugin.tasks.harness_patches import task_folders
        for path in task_folders():
            index = {**self._get_task_and_group(path), **index}
        return index""",
    1,
)
"""A harness that reads the entry point for tasks."""


def harness(source: str = HARNESS) -> Any:
    module = ModuleType("lmms_eval.tasks")
    exec(source, vars(module))
    return module


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    messages: list[str] = []
    sink = logger.add(messages.append, level="WARNING", format="{message}")
    yield messages
    logger.remove(sink)


def index_of(module: ModuleType, *arguments: Any) -> dict[str, str]:
    """The patched harness's index: the folder of each task."""
    harness_patches.patch_task_manager(module)
    index = module.TaskManager().initialize_tasks(*arguments)
    return {
        name: entry if isinstance(entry, str) else str(Path(entry["yaml_path"]).parent) for name, entry in index.items()
    }


@pytest.mark.parametrize("source", [HARNESS, WITH_ENTRY_POINTS], ids=["no entry points", "entry points"])
@pytest.mark.parametrize(("given", "folders"), [(None, []), ("mine", ["mine"]), (["a", "b"], ["a", "b"])])
def test_our_tasks_come_after_the_harnesss_and_the_users(given: Any, folders: list[str], source: str) -> None:
    first = (*folders, OURS)[0]
    expected = {"shared": "harness", "not the harness's": first, **{name: name for name in (*folders, OURS)}}
    assert index_of(harness(source), given) == expected


def test_without_defaults_only_what_the_user_named_is_searched() -> None:
    assert index_of(harness(), "mine", False) == {"shared": "mine", "not the harness's": "mine", "mine": "mine"}


def test_patching_twice_wraps_once() -> None:
    module = harness()
    harness_patches.patch_task_manager(module)
    once = module.TaskManager.initialize_tasks
    harness_patches.patch_task_manager(module)
    assert module.TaskManager.initialize_tasks is once


def test_another_signature_is_left_as_it_is_with_a_warning(warnings: list[str]) -> None:
    module = harness("class TaskManager:\n    def initialize_tasks(self, paths): return paths\n")
    harness_patches.patch_task_manager(module)
    assert module.TaskManager().initialize_tasks("given") == "given"
    assert len(warnings) == 1
    assert "--include_path" in warnings[0]


def test_a_module_without_a_task_manager_gives_only_a_warning(warnings: list[str]) -> None:
    harness_patches.patch_task_manager(ModuleType("lmms_eval.tasks"))
    assert "--include_path" in warnings[0]


def test_a_folder_that_cannot_be_read_does_not_break_the_harness(
    monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    monkeypatch.setattr(harness_patches, "TASKS", Path("unreadable"))
    assert index_of(harness(), "mine") == {"shared": "harness", "not the harness's": "mine", "mine": "mine"}
    assert "cannot read a task" in warnings[0]


def test_the_users_own_error_stays_the_users_error() -> None:
    module = harness()
    harness_patches.patch_task_manager(module)
    with pytest.raises(ValueError, match="cannot read a task"):
        module.TaskManager().initialize_tasks(["unreadable"])


@pytest.mark.parametrize("opt_out", ["", "1"])
def test_the_patch_waits_for_the_import_and_can_be_switched_off(tmp_path: Path, opt_out: str) -> None:
    package = tmp_path / "lmms_eval"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "tasks.py").write_text(HARNESS)
    code = (
        "import inspect, sys\n"
        "from atomthink_plugin.tasks import harness_patches\n"
        "harness_patches.find_tasks()\n"
        "assert not any(name.startswith('lmms_eval') for name in sys.modules)\n"
        "import lmms_eval.tasks\n"
        "assert 'class TaskManager' in inspect.getsource(lmms_eval.tasks)\n"
        "harness_patches.find_tasks()\n"
        f"print({OURS!r} in lmms_eval.tasks.TaskManager().initialize_tasks(), len(harness_patches.task_folders()))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), harness_patches.NO_TASKS: opt_out}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert result.stdout.split() == (["False", "0"] if opt_out else ["True", "1"]), result.stderr


def test_the_option_of_the_warning_names_this_folder() -> None:
    command = harness_patches._INCLUDE_PATH.split("python -c '")[1].split("'")[0]
    result = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == OURS
