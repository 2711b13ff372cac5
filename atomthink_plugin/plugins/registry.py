"""Collects what all plugins offer."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.metadata import entry_points
from typing import Any

import pluggy

from atomthink_plugin.api import SearchKind
from atomthink_plugin.plugins import defaults, hookspecs
from atomthink_plugin.plugins.hookspecs import FormatFactory, PolicyFactory, ScorerFactory

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Registry:
    """Everything that can be named on a command line."""

    policies: Mapping[str, PolicyFactory]
    scorers: Mapping[str, ScorerFactory]
    searches: Mapping[str, SearchKind]
    formats: Mapping[str, FormatFactory]


@cache
def registry() -> Registry:
    """Returns what the built-ins and all installed plugins offer.

    A plugin that cannot be loaded, or whose hook raises or exits, is reported by name and left out; likewise a
    single offer that cannot be used, and a hook that does not exist. Of two plugins that offer the same name
    the later one is left out; nothing replaces a built-in.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(defaults, name="defaults")
    for point in entry_points(group=hookspecs.PROJECT):
        try:
            plugin = point.load()
            manager.register(plugin, name=f"{point.name} ({point.value})")
        except (Exception, SystemExit) as error:
            log.warning("plugin %s (%s) is left out: %s: %s", point.name, point.value, type(error).__name__, error)
    _report_unknown_hooks(manager)
    return Registry(
        policies=_collect(manager, "atomthink_policies"),
        scorers=_collect(manager, "atomthink_scorers"),
        searches=_collect(manager, "atomthink_searches"),
        formats=_collect(manager, "atomthink_formats"),
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
    for implementation in sorted(implementations, key=lambda each: each.plugin_name != "defaults"):
        name = implementation.plugin_name
        try:
            offered = dict(implementation.function())
        except (Exception, SystemExit) as error:
            log.warning("plugin %s is left out of %s: %s: %s", name, hook, type(error).__name__, error)
            continue
        for key, offer in offered.items():
            fault = "which is taken" if key in found else _fault(hook, key, offer)
            if fault is None:
                found[key] = offer
            else:
                log.warning("plugin %s offers %r in %s, %s: left out", name, key, hook, fault)
    return found


def _fault(hook: str, key: Any, offer: Any) -> str | None:
    """Says why an offer cannot be used, None if it can.

    Every run reads the parameters of all searches and scorers, so that one bad offer would end runs that never name it.
    """
    if not isinstance(key, str):
        return "a name that is no string"
    searches = hook == "atomthink_searches"
    if searches and not isinstance(offer, SearchKind):
        return f"which is {offer!r}, not a SearchKind: wrap it, as in SearchKind(factory, scored=False)"
    factory = offer.factory if searches else offer
    try:
        inspect.signature(factory)
    except (TypeError, ValueError):
        return f"which is {factory!r}, not a function or class with parameters"
    return None
