"""Slow thinking for multimodal models: atomic steps, process reward models and search.

`load` and `ask` think about one image and one question; see `examples/think_about_one_image.py`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from atomthink_plugin.version import __version__ as __version__

if TYPE_CHECKING:
    from atomthink_plugin.model_adapters.notebook import ask, load, make_question

__all__ = ["ask", "load", "make_question"]


def __getattr__(name: str) -> Any:
    """Imports what needs more than the standard library when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("atomthink_plugin.model_adapters.notebook"), name)
