"""What a plugin can add. Each hook returns a mapping from a name users type to what it names.

External packages register an object with these hooks under the entry-point group `atomthink_plugin`.
What this package itself offers, `atomthink_plugin.plugins.defaults`, uses the same hooks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pluggy

from atomthink_plugin.api import Format, Policy, Scorer, SearchKind

PROJECT = "atomthink_plugin"

PolicyFactory = Callable[..., Policy]
"""Called with the user's arguments: `pretrained` is typed as it is, that of a role `judge` as `judge_pretrained`."""

ScorerFactory = Callable[..., Scorer]
"""Called with the user's arguments: `prm` as it is, further parameters typed by users as `prm_<name>`."""

FormatFactory = Callable[..., Format]
"""Called with the user's arguments: a parameter `instruction` is typed by users as `format_instruction`."""

Judge = Callable[[Mapping[str, Any], str], bool]
"""Called with a benchmark's own record of a question and a reply; returns whether the reply is right."""


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model that users name, as in `lmms-eval --model`.

    Attributes:
        policy: Registered name of its policy; `policy=` overrides it.
        defaults: Arguments of a run where the user gives none.
    """

    policy: str = "transformers"
    defaults: Mapping[str, Any] = field(default_factory=dict)


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


@hookspec
def atomthink_models() -> Mapping[str, NamedModel]:
    """Returns models by name, for the commands that take `--model`."""
    raise NotImplementedError


@hookspec
def atomthink_judges() -> Mapping[str, Judge]:
    """Returns, by benchmark, what judges a reply in reports."""
    raise NotImplementedError
