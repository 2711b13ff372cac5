"""Images of the questions for a page, from the thumbnails that a run's journal keeps."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

from PIL import Image

from atomthink_plugin.api import AtomThinkError

_LADDER: Final = ((640, 76), (480, 68), (384, 60), (320, 50), (256, 42), (192, 36), (128, 30))
"""Longest side in pixels and WebP quality, from well readable to barely recognizable."""


class Pictures:
    """The pictures of a page, each kept once however many questions show it.

    Args:
        room: Bytes that all of them may take together.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self.encoded: list[bytes] = []
        self._known: dict[str, int] = {}
        self._rung = 0

    def add(self, file: Path, share: int) -> int:
        """Returns the number of a picture; a new one is made as large as `share` bytes let it be.

        Args:
            file: The thumbnail; its name is a digest of the image.
            share: Bytes it may take.

        Raises:
            AtomThinkError: The file is not there, or is damaged.
        """
        if file.name not in self._known:
            # Pictures of a run are alike: the next one is tried at the size that fitted the last one.
            encoded, self._rung = _fitting(file, share, self._rung)
            self._known[file.name] = len(self.encoded)
            self.encoded.append(encoded)
            self.room -= len(encoded)
        return self._known[file.name]


def _fitting(file: Path, room: int, rung: int) -> tuple[bytes, int]:
    """A WebP file that fits as it is, any other image as large as it may be."""
    try:
        content = file.read_bytes()
        image = Image.open(io.BytesIO(content))
        image.load()  # a damaged file is noticed only when it is decoded
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
    """Returns an image as WebP of at most `room` bytes, or as small as it is still recognised, and its rung.

    Args:
        image: The image.
        room: Bytes it may take.
        first: The rung of `_LADDER` that is tried first; the largest that fits is found from any.
    """
    rung, encoded, large = first, _encoded(image, first), -1
    while len(encoded) > room and rung < len(_LADDER) - 1:
        size, large = min(max(image.size), _LADDER[rung][0]), rung
        # Bytes grow with the area: rungs that would be far too large again are not tried on the way down.
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
