"""The images of a page, made from the thumbnails in a run's journal."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

from PIL import Image

from atomthink_plugin.api import AtomThinkError

_LADDER: Final = ((640, 76), (480, 68), (384, 60), (320, 50), (256, 42), (192, 36), (128, 30))
"""Longest side in pixels and WebP quality, from well readable to barely recognizable."""


class PageImages:
    """The images of a page. An image that several questions share is stored once.

    Args:
        room: Bytes for all images together.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self.encoded: list[bytes] = []
        self._known: dict[str, int] = {}
        self._rung = 0

    def add(self, file: Path, share: int) -> int:
        """Returns the index of an image. A new image is made as large as `share` bytes allow.

        Args:
            file: The thumbnail. Its name is a digest of the image.
            share: Bytes for the image.

        Raises:
            AtomThinkError: The file is missing or damaged.
        """
        if file.name not in self._known:
            # Images of a run are similar, so the size that fitted the last one is tried first.
            encoded, self._rung = _fitting(file, share, self._rung)
            self._known[file.name] = len(self.encoded)
            self.encoded.append(encoded)
            self.room -= len(encoded)
        return self._known[file.name]


def _fitting(file: Path, room: int, rung: int) -> tuple[bytes, int]:
    """Returns the file itself if it is a WebP file that fits, otherwise the largest version that fits."""
    try:
        content = file.read_bytes()
        image = Image.open(io.BytesIO(content))
        image.load()  # damage is found only by decoding
    except FileNotFoundError:
        raise AtomThinkError("its thumbnail is missing in the journal's folder `images`") from None
    except Exception as error:  # Pillow raises many types
        raise AtomThinkError(
            f"its thumbnail in the journal's folder `images` is damaged ({type(error).__name__})"
        ) from None
    if image.format == "WEBP" and max(image.size) <= _LADDER[0][0] and len(content) <= room:
        return content, 0
    return thumbnail(image.convert("RGBA" if image.has_transparency_data else "RGB"), room, rung)


def thumbnail(image: Image.Image, room: int, first: int = 0) -> tuple[bytes, int]:
    """Returns the largest WebP version of at most `room` bytes, or the smallest version, and its index in `_LADDER`.

    Args:
        image: The image.
        room: Bytes for the image.
        first: The index in `_LADDER` to try first.
    """
    rung, encoded, large = first, _encoded(image, first), -1
    while len(encoded) > room and rung < len(_LADDER) - 1:
        size, large = min(max(image.size), _LADDER[rung][0]), rung
        # Bytes grow with the area, so sizes that would again be far too large are skipped.
        rung += 1
        while rung < len(_LADDER) - 1 and len(encoded) * min(_LADDER[rung][0] / size, 1) ** 2 > 1.5 * room:
            rung += 1
        encoded = _encoded(image, rung)
    while len(encoded) <= room and rung - 1 > large and len(larger := _encoded(image, rung - 1)) <= room:
        rung, encoded = rung - 1, larger
    return encoded, rung


def _encoded(image: Image.Image, rung: int) -> bytes:
    side, quality = _LADDER[rung]
    smaller = image.copy()
    smaller.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    smaller.save(buffer, "WEBP", quality=quality, method=3)
    return buffer.getvalue()
