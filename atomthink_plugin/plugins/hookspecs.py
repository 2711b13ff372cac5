"""What a plugin can add. Each hook returns a mapping from a name users type to what it names.

External packages register an object with these hooks under the entry-point group `atomthink_plugin`.
What this package itself offers, `atomthink_plugin.plugins.defaults`, uses the same hooks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pluggy

from atomthink_plugin.api import Format, Policy, Scorer, SearchKind

PROJECT = "atomthink_plugin"

PolicyFactory = Callable[..., Policy]
"""Called with the user's arguments: `pretrained` is typed as it is, that of a role `judge` as `judge_pretrained`."""

ScorerFactory = Callable[..., Scorer]
"""Called with the user's arguments: `prm` as it is, further parameters typed by users as `prm_<name>`."""

FormatFactory = Callable[..., Format]
"""Called with the user's arguments: a parameter `instruction` is typed by users as `format_instruction`."""

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
    """Returns prompt formats for `thinking=quick` and `thinking=slow` by name."""
    raise NotImplementedError
