"""Images of records: read, checked before anything is spent on them, and stored without being encoded again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from PIL import Image

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.inference.image_input import read_image

PLACEHOLDER: Final = "<image>"
"""The place of an image in a published prompt."""

_DECODERS: Final = 4  # threads
_SUFFIX: Final = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "GIF": "gif", "BMP": "bmp"}

BROKEN: Final = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises for a file that is missing, not an image, truncated or too large."""

Picture = Path | bytes
"""An image file, or its content."""


@lru_cache(maxsize=256)
def shared_image(file: Path) -> Image.Image:
    """Returns an image in RGB; records with the same image share it. Raises one of `BROKEN`."""
    return read_image(file)


def image_fault(picture: Picture) -> str | None:
    """Returns why an image cannot be decoded, None if it can."""
    try:
        read_image(picture)  # not cached: there may be more images than fit in memory
    except BROKEN as error:
        return f"{type(error).__name__}: {error}"
    return None


def image_faults(items: Sequence[Sequence[tuple[str, Picture]]]) -> list[str]:
    """Returns which of the named images of each item cannot be decoded and why, empty if all can.

    Each image is decoded once.
    """
    different = list(dict.fromkeys(picture for images in items for _, picture in images))
    with ThreadPoolExecutor(_DECODERS) as pool:
        faults = dict(zip(different, pool.map(image_fault, different), strict=True))
    return ["; ".join(f"image {name}: {faults[one]}" for name, one in images if faults[one]) for images in items]


def store_image(image: Any, folder: Path, out: Path) -> str:
    """Copies an image into `out/images` and returns its new name, made from its content and relative to `out`.

    The image is a file name relative to `folder`, or a mapping with `bytes` or `path`, as `datasets` has images.

    Raises:
        AtomThinkError: The copy cannot be written. An image that cannot be read raises one of `BROKEN`.
    """
    data = image.get("bytes") if isinstance(image, dict) else None
    if data is None:
        name = image.get("path") if isinstance(image, dict) else image
        if not isinstance(name, str):
            raise ValueError(f"an image is a file name, not {type(name).__name__}")
        data = (folder / name).read_bytes()
    with Image.open(BytesIO(data)) as opened:
        opened.load()
        suffix = _SUFFIX.get(opened.format or "")
        if suffix is None:
            png = BytesIO()
            opened.convert("RGB").save(png, "PNG")
            data, suffix = png.getvalue(), "png"
    target = f"images/{hashlib.blake2b(data, digest_size=10).hexdigest()}.{suffix}"
    if not (out / target).exists():
        part = out / f"{target}.part"
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(data)
            part.replace(out / target)
        except OSError as error:
            raise AtomThinkError(f"`--out {out}` cannot be written: {error.strerror}") from None
    return target
