"""Which profiles a checkpoint without a known name may fit: suggestions only, because fine-tunes share classes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Final

from atomthink_plugin.scorers.profile_catalogue import NamedProfile, all_profiles

_MOST: Final = 5
"""Profiles that an error suggests."""

_ALIKE: Final = 0.75
"""Least likeness of a folder's name and a published name."""

_SIZE: Final = re.compile(r"[-_.]?\d+(\.\d+)?b\b", re.IGNORECASE)
"""The size in a model's name: fine-tunes of another size are read alike."""


def suggested(prm: str, config: Mapping[str, Any]) -> list[str]:
    """Returns the names of profiles that may fit a checkpoint, the likeliest first.

    Args:
        prm: The folder or hub id.
        config: Its config.json.
    """
    profiles = all_profiles()
    likeness = {name: _likeness(prm, config, found) for name, found in profiles.items()}
    classes = _classes(config)
    files = set(_file_marks(prm))
    for name, found in profiles.items():
        marks = found.model.marks
        likeness[name] += 2 * len(classes & set(marks)) + len(files & set(marks))
    ranked = sorted(profiles, key=lambda name: (-likeness[name], name))
    return [name for name in ranked if likeness[name] >= _ALIKE][:_MOST]


def _likeness(prm: str, config: Mapping[str, Any], found: NamedProfile) -> float:
    """Returns how like the checkpoint's names are to the published ones, 0 if they are not alike."""
    names = [prm, str(config.get("_name_or_path") or "")]
    best = max(
        SequenceMatcher(None, _short(ours), _short(theirs)).ratio() for ours in names for theirs in found.model.names
    )
    return best if best >= _ALIKE else 0.0


def _short(name: str) -> str:
    return _SIZE.sub("", Path(name).name.lower())


def _classes(config: Mapping[str, Any]) -> set[str]:
    """Returns the names of the classes in a config: architectures, and the checkpoint's own code."""
    remote = (str(reference).rpartition(".")[2] for reference in (config.get("auto_map") or {}).values())
    return {*(config.get("architectures") or []), *remote}


def _file_marks(prm: str) -> Iterator[str]:
    """Yields special tokens and weights of a local checkpoint by which PRMs can be recognised."""
    folder = Path(prm).expanduser()
    for name in ("tokenizer.json", "added_tokens.json", "model.safetensors.index.json"):
        file = folder / name
        if file.is_file():
            text = file.read_text(encoding="utf-8", errors="replace")
            yield from (mark for found in all_profiles().values() for mark in found.model.marks if f'"{mark}' in text)
