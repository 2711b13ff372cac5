"""Lets lmms-eval find the plugin's tasks without a flag.

lmms-eval has entry points for models but none for tasks, so the entry point for models installs this: once
`lmms_eval.tasks` is imported, `TaskManager.initialize_tasks` also looks into this folder. Built-in tasks of
the same name win, but for those that `builtin_names` stands in for. Can go when lmms-eval has an entry point for
tasks.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from loguru import logger

from atomthink_plugin.tasks.builtin_names import substitute
from atomthink_plugin.tasks.loading import explained

DIRECTORY: Final = Path(__file__).parent
OPT_OUT: Final = "ATOMTHINK_NO_TASKS"
HARNESS: Final = "lmms_eval.tasks"
HINT: Final = (
    "atomthink-plugin: lmms-eval cannot be made to find the atomthink tasks by itself ({}); add "
    "--include_path \"$(python -c 'import atomthink_plugin.tasks as t; print(t.__path__[0])')\""
)
_MARK: Final = "__atomthink_tasks__"


def install() -> None:
    """Hooks the task manager, now or on its first import; does nothing if `ATOMTHINK_NO_TASKS=1`."""
    if os.environ.get(OPT_OUT) == "1":
        return
    if HARNESS in sys.modules:
        extend(sys.modules[HARNESS])
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def extend(harness: ModuleType) -> None:
    """Makes the `TaskManager` of `lmms_eval.tasks` index this folder too, once however often it is called.

    A manager that is not as expected stays as it is, and a hint says what to do instead.
    """
    try:
        manager = harness.TaskManager
        original = manager.initialize_tasks
        if hasattr(original, _MARK):
            return
        parameters = list(inspect.signature(original).parameters)
        if parameters != ["self", "include_path", "include_defaults"]:
            raise TypeError(f"TaskManager.initialize_tasks takes {parameters}")
        load = manager._load_individual_task_or_group
        manager.initialize_tasks = _with_our_folder(original)
        manager._load_individual_task_or_group = explained(load)
    except Exception as error:
        logger.warning(HINT.format(repr(error)))


def _with_our_folder(original: Any) -> Any:
    @functools.wraps(original)
    def initialize_tasks(
        self: Any, include_path: str | Sequence[str] | None = None, include_defaults: bool = True
    ) -> Any:
        if not include_defaults:
            return original(self, include_path, include_defaults)
        given = [include_path] if isinstance(include_path, str) else list(include_path or ())
        try:
            tasks = original(self, [*given, str(DIRECTORY)], include_defaults)
        except Exception as error:
            tasks = original(self, include_path, include_defaults)
            logger.warning(HINT.format(repr(error)))
            return tasks
        try:
            substitute(tasks)
        except Exception as error:
            logger.warning(f"atomthink-plugin: the built-in MathVista and MathVerse stay as they are: {error!r}")
        return tasks

    setattr(initialize_tasks, _MARK, True)
    return initialize_tasks


class _Finder(MetaPathFinder):
    """Waits for the import of `lmms_eval.tasks`, which takes too long to be done for the hook alone."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != HARNESS:
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def run_and_extend(module: ModuleType) -> None:
            run(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            extend(module)

        # On the loader itself: a loader around it would hide its sources and resources.
        spec.loader.exec_module = run_and_extend  # type: ignore[method-assign]
        return spec
