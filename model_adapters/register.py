"""What the harness calls when it looks for models: entry-point group `lmms_eval.models`.

This is also where everything is installed that changes lmms-eval itself; each of these modules says when it can go.

The harness loads all entry points in one loop, so that one which raises takes every later package with it.
Nothing here raises, and nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeVar

from loguru import logger

if TYPE_CHECKING:
    from lmms_eval.models.registry_v2 import ModelManifest

T = TypeVar("T")

_MODULE: Final = "atomthink_plugin.model_adapters.lmms_models"

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
}
"""Model id to class path; the harness imports a class only when its id is asked for."""


def manifests() -> list[ModelManifest]:
    """Returns the plugin's models, and installs what makes lmms-eval run them and their tasks.

    Each part is tried on its own: one that fails is reported in a warning and left out.
    """
    _attempt("checking the command line", _install_command_line)
    _attempt("finding the atomthink tasks", _install_tasks)
    _attempt("the stand-in for latex2sympy2", _install_latex2sympy)
    return _attempt("registering the atomthink models", _models) or []


def _attempt(what: str, action: Callable[[], T]) -> T | None:
    try:
        return action()
    except Exception as error:
        logger.warning(f"atomthink-plugin: {what} failed and is left out: {error!r}")
        return None


def model_class(name: str) -> Any:
    """Returns the class of one of these models, importing it."""
    module, _, attribute = CLASSES[name].rpartition(".")
    return getattr(import_module(module), attribute)


def _install_command_line() -> None:
    from atomthink_plugin.model_adapters import command_line

    command_line.install()


def _install_tasks() -> None:
    from atomthink_plugin.tasks import discovery

    discovery.install()


def _install_latex2sympy() -> None:
    from atomthink_plugin.model_adapters import latex2sympy

    latex2sympy.install()


def _models() -> list[ModelManifest]:
    from lmms_eval.models.registry_v2 import ModelManifest

    return [ModelManifest(model_id=name, chat_class_path=path) for name, path in CLASSES.items()]
