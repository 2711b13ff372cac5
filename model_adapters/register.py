"""Registers the models with lmms-eval: the entry point of the group `lmms_eval.models`.

It also applies the changes to lmms-eval itself; each of them states when it can be removed.

The harness loads all entry points in one loop, so an exception in one of them hides the models of all later packages.
Nothing here raises, and nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeVar

from loguru import logger

if TYPE_CHECKING:
    from lmms_eval.models.registry_v2 import ModelManifest

T = TypeVar("T")

_MODULE: Final = "atomthink_plugin.model_adapters.lmms_models"

CRITIC: Final = "atomthink_prm"
"""The model that scores given steps and does not think."""

CLASSES: Final = {
    "atomthink_tiny": f"{_MODULE}.AtomThinkTiny",
    "atomthink_hf": f"{_MODULE}.AtomThinkModel",
    "atomthink_llava": f"{_MODULE}.AtomThinkLlava",
    "atomthink_llama_vision": f"{_MODULE}.AtomThinkLlamaVision",
    "atomthink_emova": f"{_MODULE}.AtomThinkEmova",
    "atomthink_lmms": f"{_MODULE}.AtomThinkLmms",
    "atomthink_openai": f"{_MODULE}.AtomThinkOpenAI",
    "atomthink_qwen_vl": f"{_MODULE}.AtomThinkQwenVL",
    "atomthink_vllm": f"{_MODULE}.AtomThinkVllm",
    CRITIC: "atomthink_plugin.model_adapters.lmms_prm.AtomThinkPrm",
}
"""Model id to class path; the harness imports a class only when its id is asked for."""

INSTALLED: Final = {
    "the check of the command line": "atomthink_plugin.model_adapters.command_line.install",
    "the search for the atomthink tasks": "atomthink_plugin.tasks.harness_patches.find_tasks",
    "the import of latex2sympy2": "atomthink_plugin.tasks.harness_patches.import_latex2sympy",
}
"""The function that applies each change of lmms-eval. Functions are named and not imported, because model_adapters does
not import tasks."""


def manifests() -> list[ModelManifest]:
    """Returns the plugin's models and installs the changes to lmms-eval that they and their tasks need.

    Each part is tried separately. One that fails is logged as a warning and left out.
    """
    for what, path in INSTALLED.items():
        _attempt(what, partial(_install, path))
    return _attempt("registering the atomthink models", _models) or []


def _attempt(what: str, action: Callable[[], T]) -> T | None:
    try:
        return action()
    except Exception as error:
        logger.warning(f"atomthink-plugin: {what} failed and is left out: {error!r}")
        return None


def _install(path: str) -> None:
    _attribute(path)()


def model_class(name: str) -> Any:
    """Returns the class of one of these models, importing it."""
    return _attribute(CLASSES[name])


def _attribute(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def _models() -> list[ModelManifest]:
    from lmms_eval.models.registry_v2 import ModelManifest

    return [ModelManifest(model_id=name, chat_class_path=path) for name, path in CLASSES.items()]
