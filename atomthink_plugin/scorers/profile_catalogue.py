"""The published process reward models that are known by name, and files of a user's own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.scorers.critic_profile import CriticProfile
from atomthink_plugin.scorers.prm_profile import Profile, PublishedModel

_FOLDER: Final = Path(__file__).parent / "profiles"

PROFILES: Final[dict[str, Path]] = {file.stem: file for file in sorted(_FOLDER.glob("*.yaml"))}
"""Files by the names of their profiles. The registry adds those of other packages."""

SCHEMAS: Final[Mapping[str, type[PublishedModel]]] = {"layout": Profile, "critique": CriticProfile}
"""Schemas by the section that tells a file of one kind from those of the others."""

_CACHED: Final = "models--"
"""Beginning of a repository's folder in the cache of the model hub: `models--OWNER--NAME`."""


@dataclass(frozen=True, slots=True)
class NamedProfile:
    """A profile as the catalogue has it.

    Attributes:
        name: Its name, or the name of the user's file without its folder.
        digest: A digest of its content, for the identity of a scorer.
        model: What the file says.
    """

    name: str
    digest: str
    model: PublishedModel


def profile_named(name: str) -> NamedProfile:
    """Returns a profile by its name, or that of a user's YAML file.

    Raises:
        AtomThinkError: There is no such profile, or the file has faults; names all of them.
    """
    return _parsed(name, _content(name))


def profile_text(name: str) -> str:
    """Returns the YAML file of a valid profile.

    Raises:
        AtomThinkError: As for `profile_named`.
    """
    profile_named(name)
    return _content(name).decode()


def all_profiles() -> dict[str, NamedProfile]:
    """Returns all profiles by name."""
    return {name: profile_named(name) for name in sorted(PROFILES)}


def profile_of(prm: str) -> NamedProfile | None:
    """Returns the profile of a checkpoint by its hub id, or by its folder in the hub's cache; None if none has it."""
    ids = {prm.lower()}
    for part in Path(os.path.abspath(os.path.expanduser(prm))).parts:
        if part.startswith(_CACHED):
            ids.add(part.removeprefix(_CACHED).replace("--", "/", 1).lower())
    for found in all_profiles().values():
        if ids & {name.lower() for name in found.model.names}:
            return found
    return None


def _content(name: str) -> bytes:
    file = PROFILES.get(name, Path(os.path.expanduser(name)))
    if name not in PROFILES and file.suffix not in {".yaml", ".yml"} and not file.is_file():
        close = get_close_matches(name, PROFILES, 3)
        nearest = f" (did you mean {' or '.join(close)}?)" if close else ""
        raise AtomThinkError(
            f"prm_profile={name!r} is unknown{nearest}: name a YAML file, or one of {', '.join(sorted(PROFILES))}"
        )
    try:
        return file.read_bytes()
    except OSError as error:
        raise AtomThinkError(f"prm_profile={name!r} cannot be read: {error.strerror}") from error


@lru_cache(256)
def _parsed(name: str, content: bytes) -> NamedProfile:
    try:
        data: Any = yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise AtomThinkError(f"prm_profile={name!r} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise AtomThinkError(f"prm_profile={name!r} has to be a mapping with the fields of a profile")
    schema = next((schema for section, schema in SCHEMAS.items() if section in data), Profile)
    try:
        model = schema.model_validate(data)
    except ValidationError as error:
        faults = "; ".join(
            f"{_field(data, fault['loc'])}: {fault['msg'].removeprefix('Value error, ')}" for fault in error.errors()
        )
        raise AtomThinkError(f"prm_profile={name!r} has faults: {faults}") from None
    return NamedProfile(Path(name).name, hashlib.blake2b(content, digest_size=6).hexdigest(), model)


def _field(data: Any, location: tuple[str | int, ...]) -> str:
    """Returns the name of a field as the file has it: pydantic names the `kind` of a section between its fields."""
    names = []
    for part in location:
        if not (isinstance(data, dict) and part not in data and part == data.get("kind")):
            names.append(str(part))
            data = data.get(part) if isinstance(data, dict) else None
    return ".".join(names)
