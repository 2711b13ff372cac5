"""Finds the profile of a generative process reward model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.scorers.critic_profile import CriticProfile
from atomthink_plugin.scorers.profile_catalogue import all_profiles, profile_named, profile_of


def critic_profile(prm: str, profile: str | None, changes: Mapping[str, Any] | None = None) -> CriticProfile:
    """Returns the profile that a critic is asked with.

    Args:
        prm: The checkpoint that the user named.
        profile: Name of a profile, or a YAML file; by default that of the checkpoint.
        changes: Fields of its critique that the user changes.

    Raises:
        AtomThinkError: There is no such profile, it is that of another kind of PRM, or it cannot be changed so.
    """
    found = profile_of(prm) if profile is None else profile_named(profile)
    if found is None:
        critics = [name for name, each in all_profiles().items() if isinstance(each.model, CriticProfile)]
        raise AtomThinkError(
            f"prm={prm!r} is no generative PRM that is known by name: pass prm_profile=, one of {', '.join(critics)} "
            "(prompted_critic asks any model) or a YAML file"
        )
    model = found.model
    if not isinstance(model, CriticProfile):
        raise AtomThinkError(f"prm_profile={found.name} is read without a critique: pass scorer=prm_profiled")
    if not changes:
        return model
    try:
        return CriticProfile.model_validate(
            {**model.model_dump(), "critique": {**model.critique.model_dump(), **changes}}
        )
    except ValidationError as error:
        faults = "; ".join(fault["msg"] for fault in error.errors())
        named = ", ".join(f"prm_{name}={value}" for name, value in changes.items())
        raise AtomThinkError(f"{named} cannot be used with prm_profile={found.name}: {faults}") from None
