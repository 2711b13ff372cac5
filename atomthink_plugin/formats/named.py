"""Formats by name, for a process reward model whose files name the format that it was trained with."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Final

from atomthink_plugin.api import AtomThinkError, Format
from atomthink_plugin.formats.arrow import Arrow
from atomthink_plugin.formats.atomic import Atomic
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.formats.mini import Mini
from atomthink_plugin.formats.sentences import Sentences
from atomthink_plugin.formats.stages import Stages
from atomthink_plugin.formats.thoughts import Thoughts

FORMATS: Final[dict[str, Callable[..., Format]]] = {
    "continue": Continue,
    "atomic": Atomic,
    "stages": Stages,
    "sentences": Sentences,
    "thoughts": Thoughts,
    "mini": Mini,
    "arrow": Arrow,
}
"""The formats of this package. The registry adds those of installed plugins."""


def format_named(name: str) -> Format:
    """Returns the format of a name, with its default arguments.

    Raises:
        AtomThinkError: No format of that name is installed, or it has arguments without a default.
    """
    if name not in FORMATS:
        raise AtomThinkError(f"prm_format={name!r} is not installed; formats: {', '.join(sorted(FORMATS))}")
    declared = inspect.signature(FORMATS[name]).parameters.values()
    if needed := [one.name for one in declared if one.default is inspect.Parameter.empty]:
        raise AtomThinkError(f"prm_format={name!r} needs the arguments {', '.join(needed)}: name the format inside it")
    return FORMATS[name]()
