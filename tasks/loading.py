"""Says in one line why a task of ours cannot be loaded, where the harness shows a retry's traceback."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.tasks.builtin_names import Announcements

FOLDER: Final = Path(__file__).parent


def explained(original: Any) -> Any:
    """Wraps `TaskManager._load_individual_task_or_group`: our tasks fail with an AtomThinkError.

    Tasks that stand in for built-in ones are announced on the way.
    """
    announce = Announcements()

    @functools.wraps(original)
    def load(self: Any, name_or_config: Any = None, *args: Any, **kwargs: Any) -> Any:
        entry = self.task_index.get(name_or_config) if isinstance(name_or_config, str) else None
        if entry is None or FOLDER not in Path(str(entry["yaml_path"])).parents:
            return original(self, name_or_config, *args, **kwargs)
        announce(name_or_config, entry)
        try:
            return original(self, name_or_config, *args, **kwargs)
        except AtomThinkError:
            raise
        except Exception as error:
            raise AtomThinkError(reason(name_or_config, _dataset(entry), error)) from error

    return load


def reason(task: str, dataset: Mapping[str, Any], error: Exception) -> str:
    """Returns why a task cannot be loaded and what to do about it.

    Args:
        task: Its name.
        dataset: Its `dataset_path`, `dataset_name` and `test_split`.
        error: What the harness raised.
    """
    from tenacity import RetryError

    cause = error.last_attempt.exception() if isinstance(error, RetryError) else error
    path, split = dataset["dataset_path"], dataset["test_split"]
    if isinstance(cause, AtomThinkError):
        return str(cause)
    if isinstance(cause, KeyError) and cause.args == (split,):
        return f"task `{task}`: the data set `{path}` has no split `{split}`: is another one in its place?"
    name = f"`{path}`" + (f", configuration `{dataset['dataset_name']}`," if "dataset_name" in dataset else "")
    return (
        f"task `{task}`: the data set {name} cannot be loaded ({type(cause).__name__}: {cause}). Without a network, "
        f"put its files into ./{path}/data of the folder the run is started from, or into the cache of HF_HOME"
    )


def _dataset(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Reads what a task's files say of its data, without importing its functions."""
    from lmms_eval.utils import load_yaml_config

    return {"dataset_path": "?", "test_split": "?", **load_yaml_config(entry["yaml_path"], mode="simple")}
