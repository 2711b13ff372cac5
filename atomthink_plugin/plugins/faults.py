"""Why an offer of a plugin cannot be used."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Final

from atomthink_plugin.api import SearchKind
from atomthink_plugin.plugins.hookspecs import NamedModel
from atomthink_plugin.plugins.old_contract import outdated_factory, outdated_format

_TAKEN: Final = ("policy", "prm", "format")
"""What no role can be called: their arguments have these prefixes."""


def fault(hook: str, name: Any, offer: Any) -> str | None:
    """Says why an offer cannot be used, None if it can.

    Every run reads the parameters of all offers, so that one bad offer would end runs that never name it.

    Args:
        hook: The hook that returned it.
        name: What users type.
        offer: What the plugin offers under that name.
    """
    if not isinstance(name, str):
        return "a name that is no string"
    if hook == "atomthink_searches":
        return _search_fault(offer)
    if hook == "atomthink_models":
        return None if isinstance(offer, NamedModel) else f"which is {offer!r}, not a NamedModel"
    if hook == "atomthink_prm_profiles":
        return None if isinstance(offer, Path) and offer.is_file() else f"which is {offer!r}, not the path of a file"
    if (wrong := _factory_fault(offer)) is not None:
        return wrong
    if hook == "atomthink_policies":
        return outdated_factory(offer)
    if hook == "atomthink_formats" and isinstance(offer, type) and (change := outdated_format(offer)) is not None:
        return f"which cannot be used: {change}"
    return None


def _search_fault(offer: Any) -> str | None:
    if not isinstance(offer, SearchKind):
        return f"which is {offer!r}, not a SearchKind: wrap it, as in SearchKind(factory, scored=False)"
    for declared in (offer.roles, offer.optional_roles):
        if not isinstance(declared, tuple):
            return f'whose roles are {declared!r}, not a tuple of names such as ("judge",)'
        for role in declared:
            if not (isinstance(role, str) and role.isidentifier()) or role in _TAKEN:
                return f"whose role {role!r} cannot begin the names of arguments"
    return _factory_fault(offer.factory)


def _factory_fault(factory: Any) -> str | None:
    try:
        inspect.signature(factory)
    except (TypeError, ValueError):
        return f"which is {factory!r}, not a function or class with parameters"
    return None
