"""Thumbnails of a run's images, so that reports need neither the task nor the data set."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Sequence
from pathlib import Path as FilePath
from typing import Final

from PIL import Image

from atomthink_plugin.files import write_atomically
from atomthink_plugin.image_memo import PerImage

log = logging.getLogger(__name__)

_SIDE: Final = 640
"""Longest side in pixels."""

_QUALITY: Final = 76


class Thumbnails:
    """A folder with one WebP file for each distinct image.

    Args:
        folder: The folder of the files. It is created with the first file.
    """

    def __init__(self, folder: FilePath) -> None:
        self._folder = folder
        self._digest = PerImage(image_digest)
        self._warned = False

    def keep(self, images: Sequence[Image.Image]) -> list[str]:
        """Writes the missing thumbnails and returns the file names of all, in the order of `images`.

        The names include thumbnails that cannot be written. Safe to call from several threads.
        """
        return [self._keep(image) for image in images]

    def _keep(self, image: Image.Image) -> str:
        name = f"{self._digest(image)}.webp"
        file = self._folder / name
        try:
            if not file.exists():
                encoded = _encoded(image)
                self._folder.mkdir(parents=True, exist_ok=True)
                write_atomically(file, [encoded])
        except Exception as error:  # Pillow raises many types. None of them may fail the question
            if not self._warned:
                self._warned = True
                log.warning("Thumbnails cannot be written to %s (%s). Reports will show no images", self._folder, error)
        return name


def image_digest(image: Image.Image) -> str:
    """Returns a digest of an image's pixels."""
    pixels = f"{image.mode}{image.size}".encode() + image.tobytes()
    return hashlib.blake2b(pixels, digest_size=16).hexdigest()


def _encoded(image: Image.Image) -> bytes:
    smaller = image.convert("RGBA" if image.has_transparency_data else "RGB")
    smaller.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    if smaller.mode == "RGBA":  # on white, because many diagrams are black lines on a transparent background
        smaller = Image.alpha_composite(Image.new("RGBA", smaller.size, "white"), smaller).convert("RGB")
    buffer = io.BytesIO()
    smaller.save(buffer, "WEBP", quality=_QUALITY, method=3)
    return buffer.getvalue()
