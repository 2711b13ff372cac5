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
        if any("unreadable" in path for path in include_path or ()):
            raise ValueError("cannot read a task")
        return Index(searched=(include_path, include_defaults))

    def _load_individual_task_or_group(self, name_or_config=None):
        raise KeyError("no data")

class Index(dict):
    def __eq__(self, other):
        return self["searched"] == other

    def __str__(self):
        return str(self["searched"])
"""


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


@pytest.mark.parametrize(
    ("given", "searched"), [(None, [OURS]), ("mine", ["mine", OURS]), (["a", "b"], ["a", "b", OURS])]
)
def test_our_folder_is_searched_after_the_users(given: Any, searched: list[str]) -> None:
    module = harness()
    harness_patches.patch_task_manager(module)
    assert module.TaskManager().initialize_tasks(include_path=given) == (searched, True)


def test_without_defaults_only_what_the_user_named_is_searched() -> None:
    module = harness()
    harness_patches.patch_task_manager(module)
    assert module.TaskManager().initialize_tasks("mine", False) == ("mine", False)


def test_extending_twice_adds_the_folder_once() -> None:
    module = harness()
    harness_patches.patch_task_manager(module)
    harness_patches.patch_task_manager(module)
    assert module.TaskManager().initialize_tasks() == ([OURS], True)


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
    module = harness()
    harness_patches.patch_task_manager(module)
    assert module.TaskManager().initialize_tasks("mine") == ("mine", True)
    assert "cannot read a task" in warnings[0]


def test_the_users_own_error_stays_the_users_error() -> None:
    module = harness()
    harness_patches.patch_task_manager(module)
    with pytest.raises(ValueError, match="cannot read a task"):
        module.TaskManager().initialize_tasks(["unreadable"])


@pytest.mark.parametrize(("opt_out", "searched"), [("", [OURS]), ("1", None)])
def test_the_patch_waits_for_the_import_and_can_be_switched_off(
    tmp_path: Path, opt_out: str, searched: list[str] | None
) -> None:
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
        "print(lmms_eval.tasks.TaskManager().initialize_tasks())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), harness_patches.NO_TASKS: opt_out}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert result.stdout.strip() == str((searched, True)), result.stderr


def test_the_option_of_the_warning_names_this_folder() -> None:
    command = harness_patches._INCLUDE_PATH.split("python -c '")[1].split("'")[0]
    result = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == OURS
