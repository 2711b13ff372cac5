"""Prepares images: turned upright by their EXIF data, with a bounded number of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Final

from PIL import ExifTags, Image, ImageOps

MAX_PIXELS: Final = 4096 * 4096
"""Default bound on the pixels of an image: more than Qwen2.5-VL's processor keeps (12.8 million)."""

_DECODERS: Final = 4  # threads

BROKEN: Final = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises for a file that is missing, not an image, truncated or too large."""

Picture = Path | bytes
"""An image file, or its content."""

_SIDEWAYS: Final = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""

_RESIZABLE: Final = ("L", "RGB", "CMYK", "YCbCr")
"""Modes that are resized as they are. Pillow would make hidden colours of a transparent image black."""


def read_image(file: Path | bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Returns an image in RGB, as `upright` leaves it.

    Args:
        file: An image file, or its content.
        max_pixels: A larger image is scaled down.

    Raises:
        OSError: The file cannot be read or is no image. SyntaxError, ValueError and DecompressionBombError come from
            Pillow as well.
    """
    with Image.open(BytesIO(file) if isinstance(file, bytes) else file) as image:
        return upright(image, max_pixels).convert("RGB")


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


def upright(image: Image.Image, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Returns an image turned by its EXIF orientation, with `max_pixels` pixels at most.

    A JPEG file that is not decoded yet is decoded at a reduced size. Other formats have to be decoded whole before they
    are scaled down; Pillow refuses those of more than 179 million pixels.

    Args:
        image: An image, decoded or not.
        max_pixels: A larger image is scaled down, its proportions kept.

    Raises:
        OSError: The image is broken. SyntaxError and ValueError come from Pillow as well.
    """
    orientation = _orientation(image)
    size = fitting(image.size, max_pixels)
    if size != image.size:
        image.draft(None, size)
        image.load()
        scalable = image if image.mode in _RESIZABLE else image.convert("RGB")
        image = scalable.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    image.load()
    return image if orientation == 1 else ImageOps.exif_transpose(image)


def upright_size(image: Image.Image, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Returns width and height of what `upright` returns; the pixels of a file are not decoded."""
    width, height = fitting(image.size, max_pixels)
    return (height, width) if _orientation(image) in _SIDEWAYS else (width, height)


def fitting(size: tuple[int, int], max_pixels: int | None) -> tuple[int, int]:
    """Returns width and height with `max_pixels` pixels at most, the proportions kept; None is no bound."""
    width, height = size
    if max_pixels is None or width * height <= max_pixels:
        return size
    factor = (max_pixels / (width * height)) ** 0.5
    return max(int(width * factor), 1), max(int(height * factor), 1)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 where nothing has to be turned."""
    if image.format == "TIFF":  # Pillow turns these itself when it decodes them
        return 1
    if image.format == "PNG" and not any("exif" in str(name).lower() for name in image.info):
        return 1  # asking would decode the pixels, in search of EXIF data after them
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # malformed EXIF data does not make the pixels unreadable
        return 1
    return orientation if orientation in range(1, 9) else 1
