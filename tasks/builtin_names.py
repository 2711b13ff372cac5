"""lmms-eval's own MathVista and MathVerse tasks under their own names, for users without a judge's key.

Those tasks build an LLM judge while they are imported and fail where it has no key. Then the files in `builtin/`
answer to their names: the same questions, prompts and limits, scored without a judge. With a key nothing changes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, Final

from loguru import logger

DIRECTORY: Final = Path(__file__).parent / "benchmarks" / "builtin"
OPT_OUT: Final = "ATOMTHINK_KEEP_BUILTIN"
KEYS: Final = {
    "openai": "OPENAI_API_KEY",
    "async_openai": "OPENAI_API_KEY",
    "azure": "AZURE_API_KEY",
    "async_azure": "AZURE_API_KEY",
}
"""The judge that `API_TYPE` names to the variable that holds its key; other judges need none, or one of their own."""

LOUD: Final = (
    "atomthink-plugin: `{}` is lmms-eval's own task, and its LLM judge has no key ({} is not set): the same questions "
    "and prompts are scored WITHOUT A JUDGE by atomthink's rules, version {}; the metric is `acc`, `scorer` in the "
    f"results says so too. Set the key for the judge, or {OPT_OUT}=1 to keep the task as it is"
)


def substitute(index: MutableMapping[str, Any]) -> None:
    """Lets the files in `builtin/` answer to the built-in names in a task index where the judge has no key.

    Args:
        index: The task manager's: name to `type` and `yaml_path`. Changed in place.
    """
    if os.environ.get(OPT_OUT) == "1" or missing_key() is None:
        return
    for file in DIRECTORY.glob("*.yaml"):
        if index.get(file.stem, {}).get("type") == "task":
            index[file.stem] = {**index[file.stem], "yaml_path": str(file)}


def missing_key() -> str | None:
    """Returns the variable that the judge's key would be in, None if it is set or the judge needs none."""
    import lmms_eval.llm_judge  # noqa: F401  # reads the folder's .env, which may hold the key

    variable = KEYS.get(os.environ.get("API_TYPE", "openai").lower())
    return None if variable is None or os.environ.get(variable) else variable


class Announcements:
    """Says of each substituted task that it is one, once."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, name: str, entry: Mapping[str, Any]) -> None:
        """Warns if an entry of the task index, which is about to be loaded, is ours under a built-in name."""
        if Path(str(entry["yaml_path"])).parent != DIRECTORY or name in self._said:
            return
        from atomthink_plugin.tasks.scoring import SCORER_VERSION  # its imports are for those who score

        self._said.add(name)
        logger.warning(LOUD.format(name, missing_key(), SCORER_VERSION))
