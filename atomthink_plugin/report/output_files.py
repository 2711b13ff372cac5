"""Writes the files of commands, and provides the style of their pages."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

from atomthink_plugin.api import AtomThinkError


def write_text(option: str, file: Path, text: str) -> None:
    """Writes a text file.

    Raises:
        AtomThinkError: The file cannot be written. The error names the option.
    """
    write_bytes(option, file, text.encode("utf-8", "replace"))


def write_json(option: str, file: Path, value: Any) -> None:
    """Writes plain data as JSON, see `write_text`."""
    write_text(option, file, json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n")


def write_bytes(option: str, file: Path, content: bytes) -> None:
    """Writes a file, see `write_text`."""
    try:
        file.write_bytes(content)
    except OSError as error:
        raise AtomThinkError(f"`{option} {file}` cannot be written ({error.strerror})") from None


def seen_from(out: Path, source: Path, images: Iterable[str]) -> tuple[str, ...]:
    """Returns image paths that are relative to the folder `source` relative to the folder of the file `out`."""
    return tuple(os.path.relpath((source / image).resolve(), out.resolve().parent) for image in images)


def writable(option: str, file: Path | None) -> None:
    """Raises AtomThinkError if the file cannot be written. Called before long work."""
    if file is not None and (file.is_dir() or not file.absolute().parent.is_dir()):
        raise AtomThinkError(f"`{option} {file}` must be a file in an existing folder")


def base_style() -> str:
    """Returns the colours and fonts of all pages, light and dark."""
    return (files(__package__) / "page" / "base.css").read_text(encoding="utf-8")
