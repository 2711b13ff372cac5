"""What a plugin can add. Each hook returns a mapping from a name users type to what it names.

External packages register an object with these hooks under the entry-point group `atomthink_plugin`.
What this package itself offers, `atomthink_plugin.plugins.defaults`, uses the same hooks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pluggy

from atomthink_plugin.api import Example, Examples, Format, Policy, Scorer, SearchKind

PROJECT = "atomthink_plugin"

PolicyFactory = Callable[..., Policy]
"""Makes a policy from the user's arguments. Users type a parameter `pretrained` as `pretrained=`, and as
`judge_pretrained=` if the policy takes the role `judge`."""

ScorerFactory = Callable[..., Scorer]
"""Makes a scorer from the user's arguments. Users type a parameter `tag` as `prm_tag=`, and `prm` as `prm=`."""

FormatFactory = Callable[..., Format]
"""Makes a format from the user's arguments. Users type a parameter `instruction` as `format_instruction=`."""

ExamplesFactory = Callable[[Sequence[Example]], Examples]
"""Makes a way of choosing examples from the examples of a file. Users type its name as `format_nearest=`."""

Judge = Callable[[Mapping[str, Any], str], bool]
"""Returns whether a reply is right. It gets the benchmark's own record of the question, and the reply."""


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
def atomthink_examples() -> Mapping[str, ExamplesFactory]:
    """Returns ways of choosing solved examples for `format=few_shot` by name."""
    raise NotImplementedError


@hookspec
def atomthink_prm_profiles() -> Mapping[str, Path]:
    """Returns the YAML files of published process reward models by name, for `prm_profile=` and `prm=`."""
    raise NotImplementedError


@hookspec
def atomthink_models() -> Mapping[str, NamedModel]:
    """Returns models by name, for the commands that take `--model`."""
    raise NotImplementedError


@hookspec
def atomthink_judges() -> Mapping[str, Judge]:
    """Returns, by benchmark, what judges a reply in reports."""
    raise NotImplementedError
