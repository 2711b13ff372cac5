"""Pictures as records name them: read, checked before anything is spent on them, left as they are stored."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from PIL import Image

from atomthink_plugin.inference.image_input import read_image

_DECODERS: Final = 4  # threads that check images

BROKEN: Final = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises for files that are no picture, half of one, or one of more pixels than memory should hold."""

Picture = Path | bytes
"""A file, or what would be in it."""


@lru_cache(maxsize=256)
def shared_image(file: Path) -> Image.Image:
    """Returns a picture in RGB; records about one picture share it.

    Raises:
        OSError: There is no such file, or it is no picture; others of `BROKEN` for broken ones.
    """
    return read_image(file)


def image_fault(picture: Picture) -> str | None:
    """Returns why a picture cannot be decoded, None if it can."""
    try:
        read_image(picture)  # not kept: a check is of more pictures than memory may hold
    except BROKEN as error:
        return f"{type(error).__name__}: {error}"
    return None


def image_faults(pictures: Iterable[Picture]) -> dict[Picture, str]:
    """Returns why pictures cannot be decoded, without those that can; each is looked at once."""
    different = list(dict.fromkeys(pictures))
    with ThreadPoolExecutor(_DECODERS) as pool:
        faults = zip(different, pool.map(image_fault, different), strict=True)
        return {picture: fault for picture, fault in faults if fault is not None}


def as_stored(data: Any) -> Any:
    """Returns a split of `datasets` that gives its pictures' bytes instead of decoding them."""
    import datasets

    stored = datasets.Image(decode=False)
    for name, kind in data.features.items():
        if isinstance(kind, datasets.Image):
            data = data.cast_column(name, stored)
        elif isinstance(getattr(kind, "feature", None), datasets.Image):
            data = data.cast_column(name, datasets.List(stored))
    return data
