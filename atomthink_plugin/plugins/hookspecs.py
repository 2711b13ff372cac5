"""What a plugin can add. Each hook returns a mapping from a name users type to what it names.

External packages register an object with these hooks under the entry-point group `atomthink_plugin`.
The built-ins in `atomthink_plugin.plugins.defaults` come in through the same hooks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pluggy

from atomthink_plugin.api import Format, Policy, Scorer, SearchKind

PROJECT = "atomthink_plugin"

PolicyFactory = Callable[..., Policy]
"""Called with `format=` and the user's arguments."""

ScorerFactory = Callable[..., Scorer]
"""Called with the user's arguments: `prm` as it is, further parameters typed by users as `prm_<name>`."""

FormatFactory = Callable[[], Format]

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def atomthink_policies() -> Mapping[str, PolicyFactory]:
    """Returns policies by name."""
    raise NotImplementedError


@hookspec
def atomthink_scorers() -> Mapping[str, ScorerFactory]:
    """Returns scorers by name."""
    raise NotImplementedError


@hookspec
def atomthink_searches() -> Mapping[str, SearchKind]:
    """Returns searches for `thinking=slow` by name."""
    raise NotImplementedError


@hookspec
def atomthink_formats() -> Mapping[str, FormatFactory]:
    """Returns step-by-step prompt formats by name."""
    raise NotImplementedError
