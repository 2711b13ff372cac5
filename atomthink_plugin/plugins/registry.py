"""Collects what all plugins offer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final

import pluggy

from atomthink_plugin.api import SearchKind
from atomthink_plugin.formats.named import FORMATS
from atomthink_plugin.plugins import hookspecs
from atomthink_plugin.plugins.faults import fault
from atomthink_plugin.plugins.hookspecs import (
    ExamplesFactory,
    FormatFactory,
    Judge,
    NamedModel,
    PolicyFactory,
    ScorerFactory,
)
from atomthink_plugin.plugins.old_contract import explained
from atomthink_plugin.scorers.profile_catalogue import PROFILES

log = logging.getLogger(__name__)

DEFAULT_PLUGINS: Final = ("atomthink_plugin.plugins.defaults",)
"""Modules that this package itself offers; named, not imported: they use what uses the registry."""

_PREFIX: Final = "atomthink_"
"""Beginning of the names of all hooks."""


@dataclass(slots=True)
class InstalledPlugin:
    """A plugin of another package, as it was found.

    Attributes:
        name: The name of its entry point.
        package: The package that it is in, and the version.
        offers: The names that it offers and that can be used, by hook without the prefix: `searches`, `scorers`, ...
        problems: What was left out, and why.
    """

    name: str
    package: str
    offers: dict[str, list[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Registry:
    """Everything that can be named on a command line, and the plugins of other packages."""

    policies: Mapping[str, PolicyFactory]
    scorers: Mapping[str, ScorerFactory]
    searches: Mapping[str, SearchKind]
    formats: Mapping[str, FormatFactory]
    examples: Mapping[str, ExamplesFactory]
    models: Mapping[str, NamedModel]
    judges: Mapping[str, Judge]
    prm_profiles: Mapping[str, Path]
    plugins: tuple[InstalledPlugin, ...]


@cache
def registry() -> Registry:
    """Returns what the default plugins and all installed ones offer.

    A plugin that cannot be loaded, or whose hook raises or exits, is reported by name and left out, and so is a
    single offer that cannot be used, and a hook that does not exist. Of two plugins that offer the same name
    the later one is left out; nothing replaces an offer of a default plugin.
    """
    manager, plugins = _found()
    formats = _collect(manager, "atomthink_formats", plugins)
    FORMATS.update(formats)
    prm_profiles = _collect(manager, "atomthink_prm_profiles", plugins)
    PROFILES.update(prm_profiles)
    return Registry(
        policies=_collect(manager, "atomthink_policies", plugins),
        scorers=_collect(manager, "atomthink_scorers", plugins),
        searches=_collect(manager, "atomthink_searches", plugins),
        formats=formats,
        examples=_collect(manager, "atomthink_examples", plugins),
        models=_collect(manager, "atomthink_models", plugins),
        judges=_collect(manager, "atomthink_judges", plugins),
        prm_profiles=prm_profiles,
        plugins=tuple(plugins.values()),
    )


def add_profiles() -> None:
    """Adds the PRM profiles of other packages to the catalogue, without what all policies and scorers import."""
    manager, plugins = _found()
    PROFILES.update(_collect(manager, "atomthink_prm_profiles", plugins))


def _found() -> tuple[pluggy.PluginManager, dict[str, InstalledPlugin]]:
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    for module in DEFAULT_PLUGINS:
        manager.register(import_module(module), name=module)
    plugins: dict[str, InstalledPlugin] = {}
    for point in entry_points(group=hookspecs.PROJECT):
        name = f"{point.name} ({point.value})"
        plugins[name] = InstalledPlugin(point.name, _package(point))
        try:
            manager.register(point.load(), name=name)
        except (Exception, SystemExit) as error:
            _report(plugins, name, f"is left out: {explained(error)}")
    _report_unknown_hooks(manager, plugins)
    return manager, plugins


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "unknown package"


def _report(plugins: Mapping[str, InstalledPlugin], name: str, problem: str) -> None:
    log.warning("plugin %s %s", name, problem)
    if name in plugins:  # the default plugins are not
        plugins[name].problems.append(problem)


def _report_unknown_hooks(manager: pluggy.PluginManager, plugins: Mapping[str, InstalledPlugin]) -> None:
    hooks = [name for name in vars(hookspecs) if name.startswith(_PREFIX)]
    for plugin in manager.get_plugins():
        for caller in manager.get_hookcallers(plugin) or ():
            if not caller.has_spec():
                close = get_close_matches(caller.name, hooks, 1)
                advice = f"did you mean {close[0]}?" if close else f"valid are {', '.join(hooks)}"
                problem = f"implements {caller.name}, which is not a hook and is ignored: {advice}"
                _report(plugins, str(manager.get_name(plugin)), problem)


def _collect(manager: pluggy.PluginManager, hook: str, plugins: Mapping[str, InstalledPlugin]) -> dict[str, Any]:
    """Asks one plugin after another, so that one that raises takes no other with it."""
    found: dict[str, Any] = {}
    implementations = getattr(manager.hook, hook).get_hookimpls()
    for implementation in sorted(implementations, key=lambda each: each.plugin_name not in DEFAULT_PLUGINS):
        name = implementation.plugin_name
        try:
            offered = dict(implementation.function())
        except (Exception, SystemExit) as error:
            _report(plugins, name, f"is left out of {hook}: {explained(error)}")
            continue
        for key, offer in offered.items():
            wrong = "which is taken" if key in found else fault(hook, key, offer)
            if wrong is not None:
                _report(plugins, name, f"offers {key!r} in {hook}, {wrong}: left out")
                continue
            found[key] = offer
            if name in plugins:
                plugins[name].offers.setdefault(hook.removeprefix(_PREFIX), []).append(key)
    return found
