"""Images of published records: file names, contents, base64 text, and lists of these."""

from __future__ import annotations

import ast
import base64
import binascii
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

from atomthink_plugin.inference.image_input import Picture

_BASE64: Final = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "Qk0")
"""The beginnings of PNG, JPEG, GIF, WebP and BMP files in base64."""

_SHORTEST: Final = 80
"""Characters from which a text with such a beginning is an image and not a file name."""

_SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp")
_MOST: Final = 32
"""The most images of a question that are looked for by its number."""


def pictures_of(given: Any, folder: Path) -> tuple[Picture, ...]:
    """Returns the images of a field.

    Args:
        given: Nothing, an image or a list: a file name, base64 text, a data URL, or a mapping with `bytes` or `path`.
        folder: What file names are relative to.

    Raises:
        ValueError: It is something else, or an image is missing.
    """
    return tuple(_pictures(given, folder))


def _pictures(given: Any, folder: Path) -> Iterator[Picture]:
    if given is None or given == "":
        return
    if isinstance(given, list | tuple):
        for one in given:
            yield from _pictures(one, folder)
    elif isinstance(given, bytes):
        yield given
    elif isinstance(given, Mapping):
        content = given.get("bytes")
        yield from _pictures(given.get("path") if content is None else content, folder)
    elif isinstance(given, str):
        yield from _of_text(given, folder)
    else:
        raise ValueError(f"an image is a file name or its content, not {type(given).__name__}")


def _of_text(given: str, folder: Path) -> Iterator[Picture]:
    if given.startswith("[") and given.endswith("]"):  # a list in a cell of a table
        try:
            yield from _pictures(ast.literal_eval(given), folder)
        except (SyntaxError, ValueError):
            raise ValueError(f"images: {given[:60]!r} is not a list of file names") from None
    elif given.startswith("data:"):
        yield _decoded(given.partition("base64,")[2])
    elif len(given) >= _SHORTEST and given.startswith(_BASE64):
        yield _decoded(given)
    elif given.startswith(("http://", "https://")):
        raise ValueError(f"image {given}: images are not downloaded. Download it and name its folder with `--images`")
    else:
        yield _located(given.removeprefix("file://"), folder)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"an image is not base64: {error}") from None


def _located(name: str, folder: Path) -> Path:
    """Returns an image file. An absolute name of another machine is looked for by its last parts in `folder`."""
    path = PurePosixPath(name)
    parts = path.parts[1:] if path.is_absolute() else ()
    tails = (folder.joinpath(*parts[start:]) for start in range(len(parts)))
    for file in (folder / name, *tails):
        if file.is_file():
            return file
    raise ValueError(f"image {name}: not found in {folder}. Name the folder of the images with `--images`")


def numbered_pictures(number: str, folder: Path) -> tuple[Picture, ...]:
    """Returns the images of a question that are named by its number: `7.png`, or `7_0.png`, `7_1.png`, ..."""
    for suffix in _SUFFIXES:
        if (single := folder / f"{number}{suffix}").is_file():
            return (single,)
        several = [folder / f"{number}_{at}{suffix}" for at in range(_MOST)]
        there = [file for file in several if file.is_file()]
        if there:
            return tuple(there)
    return ()
