"""Patches of lmms-eval that this package's tasks need; each patch is one public function.

The entry point for models (`model_adapters/register.py`) applies `find_tasks` and `import_latex2sympy`. The other two
change the task manager and are applied by `find_tasks`. All of them were last checked with lmms-eval 0.7.3.

One more patch is in `model_adapters/command_line.py`, because it checks the arguments of this package's models.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from loguru import logger

from atomthink_plugin.api import AtomThinkError

TASKS: Final = Path(__file__).parent
BUILTIN: Final = TASKS / "benchmarks" / "builtin"
"""Task files that replace lmms-eval's tasks of the same names; see `replace_judged_tasks`."""

NO_TASKS: Final = "ATOMTHINK_NO_TASKS"
KEEP_BUILTIN: Final = "ATOMTHINK_KEEP_BUILTIN"

_TASK_MODULE: Final = "lmms_eval.tasks"
_APPLIED: Final = "__atomthink_tasks__"
_INCLUDE_PATH: Final = "--include_path \"$(python -c 'import atomthink_plugin.tasks as t; print(t.__path__[0])')\""
_JUDGE_KEYS: Final = {
    "openai": "OPENAI_API_KEY",
    "async_openai": "OPENAI_API_KEY",
    "azure": "AZURE_API_KEY",
    "async_azure": "AZURE_API_KEY",
}
"""The environment variable with the judge's key, by the value of `API_TYPE`. Other judges need no key from us."""


def task_folders() -> list[str]:
    """Returns the folders with this package's task files; none if `ATOMTHINK_NO_TASKS=1`.

    The entry point of the group `lmms_eval.tasks`, which lmms-eval 0.7.3 does not read. `docs/upstream/` has a patch of
    lmms-eval that does.
    """
    return [] if os.environ.get(NO_TASKS) == "1" else [str(TASKS)]


def find_tasks() -> None:
    """Makes lmms-eval's task manager search this folder too, unless `ATOMTHINK_NO_TASKS=1`.

    Upstream: lmms-eval has an entry point for models and none for tasks, so every run would need `--include_path`.
    Its own tasks win over ours of the same name, except those of `replace_judged_tasks`. An lmms-eval that reads
    `task_folders` has the same tasks in its index already, so that this patch changes nothing.

    Remove when: lmms-eval has an entry point for tasks.
    """
    if os.environ.get(NO_TASKS) == "1":
        return
    if _TASK_MODULE in sys.modules:
        patch_task_manager(sys.modules[_TASK_MODULE])
    else:
        # The module takes seconds to import, so it is patched when it is imported.
        _run_on_import(_TASK_MODULE, _execute_and_patch)


def _execute_and_patch(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    execute(module)
    patch_task_manager(module)


def patch_task_manager(tasks: ModuleType) -> None:
    """Applies the three patches of `TaskManager` to the module `lmms_eval.tasks`, once.

    A task manager with another signature is left as it is, and a warning says which option replaces the patch.
    """
    try:
        manager = tasks.TaskManager
        original = manager.initialize_tasks
        if hasattr(original, _APPLIED):
            return
        parameters = list(inspect.signature(original).parameters)
        if parameters != ["self", "include_path", "include_defaults"]:
            raise TypeError(f"TaskManager.initialize_tasks takes {parameters}")
        load = manager._load_individual_task_or_group
        manager.initialize_tasks = _with_this_folder(original)
        manager._load_individual_task_or_group = explain_load_errors(load)
    except Exception as error:
        _warn_not_found(error)


def _warn_not_found(error: Exception) -> None:
    logger.warning(f"atomthink-plugin: lmms-eval does not find the atomthink tasks ({error!r}). Add {_INCLUDE_PATH}")


def _with_this_folder(original: Any) -> Any:
    @functools.wraps(original)
    def initialize_tasks(
        self: Any, include_path: str | Sequence[str] | None = None, include_defaults: bool = True
    ) -> Any:
        index = original(self, include_path, include_defaults)
        if not include_defaults:
            return index
        try:
            index = {**self._get_task_and_group(str(TASKS)), **index}
        except Exception as error:
            _warn_not_found(error)
            return index
        try:
            replace_judged_tasks(index)
        except Exception as error:
            logger.warning(f"atomthink-plugin: the built-in MathVista and MathVerse tasks are not replaced: {error!r}")
        return index

    setattr(initialize_tasks, _APPLIED, True)
    return initialize_tasks


def replace_judged_tasks(index: MutableMapping[str, Any]) -> None:
    """Replaces lmms-eval's MathVista and MathVerse tasks by rule-scored ones where the LLM judge has no key.

    Upstream: these tasks create their judge when they are imported, and fail where it has no key. The files in
    `benchmarks/builtin/` have the same questions, prompts and limits. With a key, or with `ATOMTHINK_KEEP_BUILTIN=1`,
    nothing changes.

    Remove when: lmms-eval's tasks can be loaded without a key and name a scorer without a judge.

    Args:
        index: The task manager's index: name to `type` and `yaml_path`. Changed in place.
    """
    if os.environ.get(KEEP_BUILTIN) == "1" or missing_judge_key() is None:
        return
    for file in BUILTIN.glob("*.yaml"):
        if index.get(file.stem, {}).get("type") == "task":
            index[file.stem] = {**index[file.stem], "yaml_path": str(file)}


def judge_key() -> str | None:
    """Returns the environment variable that holds the judge's key, None if the judge needs none from us."""
    import lmms_eval.llm_judge  # noqa: F401  # it loads the folder's .env, which may hold the key

    return _JUDGE_KEYS.get(os.environ.get("API_TYPE", "openai").lower())


def missing_judge_key() -> str | None:
    """Returns the environment variable that should hold the judge's key, None if it is set or not needed."""
    variable = judge_key()
    return None if variable is None or os.environ.get(variable) else variable


@functools.cache
def _warn_of_replacement(task: str) -> None:
    from atomthink_plugin.tasks.scoring.judges import SCORER_VERSION  # slow to import

    key = missing_judge_key()
    logger.warning(
        f"atomthink-plugin: `{task}` is a task of lmms-eval whose LLM judge has no key ({key} is not set). Its replies "
        f"are scored WITHOUT A JUDGE, by the rules of atomthink-plugin, version {SCORER_VERSION}. The metric is `acc`, "
        f"and the results name the scorer. Set {key} to use the judge, or {KEEP_BUILTIN}=1 to keep lmms-eval's task."
    )


def explain_load_errors(load: Any) -> Any:
    """Wraps `TaskManager._load_individual_task_or_group`: a task of ours that cannot be loaded raises AtomThinkError.

    Upstream: the harness retries the data set several times and then prints the traceback of a `RetryError`, which
    names neither the task nor the data set. The wrapper also warns once of each task that `replace_judged_tasks`
    replaced.

    Remove when: lmms-eval reports in one line which data set of which task cannot be loaded.
    """

    @functools.wraps(load)
    def load_task(self: Any, name_or_config: Any = None, *args: Any, **kwargs: Any) -> Any:
        entry = self.task_index.get(name_or_config) if isinstance(name_or_config, str) else None
        if entry is None or TASKS not in Path(str(entry["yaml_path"])).parents:
            return load(self, name_or_config, *args, **kwargs)
        if Path(str(entry["yaml_path"])).parent == BUILTIN:
            _warn_of_replacement(name_or_config)
        try:
            return load(self, name_or_config, *args, **kwargs)
        except AtomThinkError:
            raise
        except Exception as error:
            raise AtomThinkError(_load_error(name_or_config, _task_settings(entry), error)) from error

    return load_task


def _task_settings(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a task's YAML files say, without importing the functions they name."""
    from lmms_eval.utils import load_yaml_config

    return {"dataset_path": "?", "test_split": "?", **load_yaml_config(entry["yaml_path"], mode="simple")}


def _load_error(task: str, settings: Mapping[str, Any], error: Exception) -> str:
    from tenacity import RetryError

    cause = error.last_attempt.exception() if isinstance(error, RetryError) else error
    path, split = settings["dataset_path"], settings["test_split"]
    if isinstance(cause, AtomThinkError):
        return str(cause)
    if isinstance(cause, KeyError) and cause.args == (split,):
        return f"task `{task}`: the data set `{path}` has no split `{split}`. Check whether it is the right data set"
    name = f"`{path}`" + (f", configuration `{settings['dataset_name']}`," if "dataset_name" in settings else "")
    return (
        f"task `{task}`: the data set {name} cannot be loaded ({type(cause).__name__}: {cause}). Without a network, "
        f"put its files into ./{path}/data in the current folder, or into the cache in HF_HOME"
    )


def import_latex2sympy() -> None:
    """Makes `import latex2sympy2` fall back on `latex2sympy2_extended`; imports neither of them.

    Upstream: lmms-eval's `mathvision`, `emma` and `stare` scorers import `latex2sympy2`, its `_reasoning` scorers
    import math-verify, and no pair of releases of these two works with the same antlr runtime. math-verify depends on
    `latex2sympy2_extended`, which has the same function.

    Remove when: lmms-eval imports only one of the two.
    """
    _run_on_import("latex2sympy2", _execute_or_copy)


def _execute_or_copy(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    try:
        execute(module)
    except Exception as error:
        try:
            replacement = import_module("latex2sympy2_extended.latex2sympy2")
        except ImportError:
            raise error from None
        vars(module).update({key: value for key, value in vars(replacement).items() if not key.startswith("__")})


def _run_on_import(name: str, action: Callable[[Callable[[ModuleType], None], ModuleType], None]) -> None:
    """Runs `action(execute, module)` in place of `execute(module)` when a module is imported."""
    if not any(isinstance(finder, _ImportHook) and finder.name == name for finder in sys.meta_path):
        sys.meta_path.insert(0, _ImportHook(name, action))


class _ImportHook(MetaPathFinder):
    def __init__(self, name: str, action: Callable[[Callable[[ModuleType], None], ModuleType], None]) -> None:
        self.name, self._action = name, action

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is None or spec.loader is None:
            spec = ModuleSpec(fullname, _MissingModule())
        assert spec.loader is not None
        # Patched on the loader itself, because a loader around it would hide its sources and resources.
        spec.loader.exec_module = functools.partial(self._action, spec.loader.exec_module)  # type: ignore[method-assign]
        return spec


class _MissingModule(Loader):
    """The loader of a module that is not installed, so that the hook's action can replace it."""

    def create_module(self, spec: ModuleSpec) -> None:
        """Lets the import system create the module."""

    def exec_module(self, module: ModuleType) -> None:
        raise ModuleNotFoundError(f"No module named {module.__name__!r}", name=module.__name__)
