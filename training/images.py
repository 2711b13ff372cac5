"""Images of records: read, checked before anything is spent on them, and stored without being encoded again."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from PIL import Image

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.inference.image_input import read_image

PLACEHOLDER: Final = "<image>"
"""The place of an image in a published prompt."""

_SUFFIX: Final = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "GIF": "gif", "BMP": "bmp"}


@lru_cache(maxsize=256)
def shared_image(file: Path) -> Image.Image:
    """Returns an image in RGB; records with the same image share it. Raises one of `BROKEN`."""
    return read_image(file)


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
