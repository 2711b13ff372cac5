"""Files that commands write, and the style that their pages share."""

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
        AtomThinkError: It cannot be written; names the option.
    """
    write_bytes(option, file, text.encode("utf-8", "replace"))


def write_json(option: str, file: Path, value: Any) -> None:
    """Writes plain data as JSON; see `write_text`."""
    write_text(option, file, json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n")


def write_bytes(option: str, file: Path, content: bytes) -> None:
    """Writes a file; see `write_text`."""
    try:
        file.write_bytes(content)
    except OSError as error:
        raise AtomThinkError(f"`{option} {file}` cannot be written: {error.strerror}") from None


def seen_from(out: Path, source: Path, images: Iterable[str]) -> tuple[str, ...]:
    """Returns images, relative to the folder `source`, as they are named in the file `out`."""
    return tuple(os.path.relpath((source / image).resolve(), out.resolve().parent) for image in images)


def writable(option: str, file: Path | None) -> None:
    """Raises AtomThinkError if a file that is asked for cannot be written, before hours are spent on it."""
    if file is not None and (file.is_dir() or not file.absolute().parent.is_dir()):
        raise AtomThinkError(f"`{option} {file}`: not a file in an existing folder")


def base_style() -> str:
    """Returns the colours and type of all pages, light and dark."""
    return (files(__package__) / "page" / "base.css").read_text(encoding="utf-8")
