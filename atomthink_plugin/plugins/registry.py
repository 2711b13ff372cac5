"""Collects what all plugins offer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Final

import pluggy

from atomthink_plugin.api import SearchKind
from atomthink_plugin.formats.named import FORMATS
from atomthink_plugin.plugins import hookspecs
from atomthink_plugin.plugins.faults import fault
from atomthink_plugin.plugins.hookspecs import FormatFactory, Judge, NamedModel, PolicyFactory, ScorerFactory
from atomthink_plugin.plugins.old_contract import explained

log = logging.getLogger(__name__)

DEFAULT_PLUGINS: Final = ("atomthink_plugin.plugins.defaults",)
"""Modules that this package itself offers; named, not imported: they use what uses the registry."""


@dataclass(frozen=True, slots=True)
class Registry:
    """Everything that can be named on a command line."""

    policies: Mapping[str, PolicyFactory]
    scorers: Mapping[str, ScorerFactory]
    searches: Mapping[str, SearchKind]
    formats: Mapping[str, FormatFactory]
    models: Mapping[str, NamedModel]
    judges: Mapping[str, Judge]


@cache
def registry() -> Registry:
    """Returns what the default plugins and all installed ones offer.

    A plugin that cannot be loaded, or whose hook raises or exits, is reported by name and left out, and so is a
    single offer that cannot be used, and a hook that does not exist. Of two plugins that offer the same name
    the later one is left out; nothing replaces an offer of a default plugin.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    for module in DEFAULT_PLUGINS:
        manager.register(import_module(module), name=module)
    for point in entry_points(group=hookspecs.PROJECT):
        try:
            plugin = point.load()
            manager.register(plugin, name=f"{point.name} ({point.value})")
        except (Exception, SystemExit) as error:
            log.warning("plugin %s (%s) is left out: %s", point.name, point.value, explained(error))
    _report_unknown_hooks(manager)
    formats = _collect(manager, "atomthink_formats")
    FORMATS.update(formats)
    return Registry(
        policies=_collect(manager, "atomthink_policies"),
        scorers=_collect(manager, "atomthink_scorers"),
        searches=_collect(manager, "atomthink_searches"),
        formats=formats,
        models=_collect(manager, "atomthink_models"),
        judges=_collect(manager, "atomthink_judges"),
    )


def _report_unknown_hooks(manager: pluggy.PluginManager) -> None:
    hooks = [name for name in vars(hookspecs) if name.startswith("atomthink_")]
    for plugin in manager.get_plugins():
        for caller in manager.get_hookcallers(plugin) or ():
            if not caller.has_spec():
                close = get_close_matches(caller.name, hooks, 1)
                advice = f"did you mean {close[0]}?" if close else f"valid are {', '.join(hooks)}"
                log.warning(
                    "plugin %s: there is no hook %s, so it is ignored: %s",
                    *(manager.get_name(plugin), caller.name, advice),
                )


def _collect(manager: pluggy.PluginManager, hook: str) -> dict[str, Any]:
    """Asks one plugin after another, so that one that raises takes no other with it."""
    found: dict[str, Any] = {}
    implementations = getattr(manager.hook, hook).get_hookimpls()
    for implementation in sorted(implementations, key=lambda each: each.plugin_name not in DEFAULT_PLUGINS):
        name = implementation.plugin_name
        try:
            offered = dict(implementation.function())
        except (Exception, SystemExit) as error:
            log.warning("plugin %s is left out of %s: %s", name, hook, explained(error))
            continue
        for key, offer in offered.items():
            wrong = "which is taken" if key in found else fault(hook, key, offer)
            if wrong is None:
                found[key] = offer
            else:
                log.warning("plugin %s offers %r in %s, %s: left out", name, key, hook, wrong)
    return found
