"""Finds out how the checkpoint of a process reward model is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.scorers.fingerprints import suggested
from atomthink_plugin.scorers.prm_profile import Profile
from atomthink_plugin.scorers.profile_catalogue import NamedProfile, profile_named, profile_of

SECTION: Final = "atomthink_prm"
"""Key of config.json under which PRMs trained here say how they are read."""


class PrmSettings(BaseModel):
    """The `atomthink_prm` section of a PRM's config.json.

    Attributes:
        kind: `token` (read at a tag), `head` (a classifier, read at a separator) or `likelihood` (of the step's own
            tokens).
        images: Whether it reads images; a text-only one is read in the published layout of its kind.
        format: Name of the prompt format it was trained with, if it reads images.
        tag: `token` and `head`: the token after every step.
        good: `token`: the token for a right step.
        bad: `token`: the token for a wrong step.
        scale: `likelihood`: factor of the log-likelihood.
        bias: `likelihood`: added to it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["token", "head", "likelihood"]
    images: bool = True
    format: str = "continue"
    tag: str | None = None
    good: str | None = None
    bad: str | None = None
    scale: float = 1.0
    bias: float = 0.0


PUBLISHED: Final = PrmSettings(kind="token", tag=" \n\n\n\n\n", good=" +", bad=" -")
"""AtomThinkPRM and Math-psa: one tag after every step, `+` and `-` with the space before them."""

SEPARATOR_TOKEN: Final = "<extra_0>"
"""The token after every step for Qwen2.5-Math-PRM."""


def prm_settings(config: dict[str, Any], name: str) -> PrmSettings | None:
    """Returns the settings in `config` for reading the PRM `name`, None if it has none.

    Raises:
        AtomThinkError: The settings are not valid.
    """
    if SECTION not in config:
        return None
    try:
        return PrmSettings.model_validate(config[SECTION])
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise AtomThinkError(f"prm={name!r}: {SECTION} in its config.json is wrong ({faults})") from error


@dataclass(frozen=True, slots=True)
class DetectedPrm:
    """How a checkpoint is read.

    Attributes:
        scorer: Name of the scorer that reads it in this process.
        profile: Its profile, None for a PRM that says in its config.json how it is read.
    """

    scorer: str
    profile: NamedProfile | None = None


def detect_prm(prm: str, revision: str | None = None, profile: str | None = None) -> DetectedPrm:
    """Returns how the checkpoint `prm` is read.

    The profile that the user names comes first, then the section `atomthink_prm` of config.json, then the hub id.

    Args:
        prm: A folder or the id of a repository on the model hub.
        revision: Branch, tag or commit on the hub.
        profile: Name of a profile, or a YAML file.

    Raises:
        AtomThinkError: Nothing says how it is read; suggests the nearest profiles.
    """
    if profile is not None:
        return _by_profile(profile_named(profile))
    from atomthink_plugin.inference.checkpoint_files import (
        load_config,  # imports torch, which naming a scorer needs not
    )

    config = load_config(prm, revision=revision, argument="prm")
    settings = prm_settings(config, prm)
    if settings is not None:
        return DetectedPrm(f"prm_{settings.kind}")
    known = profile_of(prm)
    if known is not None:
        return _by_profile(known)
    architectures = ", ".join(config.get("architectures") or []) or "no architecture named"
    near = suggested(prm, config)
    advice = " or ".join(f"prm_profile={name}" for name in near) or "prm_profile=NAME or prm_profile=FILE.yaml"
    raise AtomThinkError(
        f"prm={prm!r} ({architectures}) does not say how it is read: pass {advice} (`atomthink prm profiles` lists "
        "all), or scorer=prm_token (a language model read at a tag), scorer=prm_head (a token classifier) or "
        "scorer=prm_likelihood"
    )


def _by_profile(found: NamedProfile) -> DetectedPrm:
    return DetectedPrm("prm_profiled" if isinstance(found.model, Profile) else "prm_judge", found)
