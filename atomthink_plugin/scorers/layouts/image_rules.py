"""Which images of a question a profile's PRM gets, and how large."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from atomthink_plugin.api import AtomThinkError, Question, QuestionError
from atomthink_plugin.inference.encoding import to_rgb
from atomthink_plugin.scorers.prm_profile import ImageRule

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import ProcessorMixin

log = logging.getLogger(__name__)

COLUMNS: Final = 3
"""Most columns of images that are joined into one (BIS, arXiv 2602.04145, published code)."""

_JOINED: Final = 64
"""Joined images that are remembered; the steps of a question share one."""


class AskedImages:
    """Applies the image rule of a profile. Logs one warning when it leaves out images.

    Args:
        name: The profile's name.
        rule: Its image rule.
    """

    def __init__(self, name: str, rule: ImageRule) -> None:
        self._name = name
        self._rule = rule
        self._warned = False
        # The images themselves are kept in the value: while they live, their ids name them.
        self._joined: OrderedDict[tuple[int, ...], tuple[list[Image], Image]] = OrderedDict()

    def of(self, question: Question) -> list[Image]:
        """Returns the images of `question` that the PRM gets.

        Raises:
            QuestionError: The question has more images than the profile allows, or one of them cannot be read.
        """
        images, most = list(question.images), self._rule.most
        if most is not None and len(images) > most and self._rule.use != "none":
            raise QuestionError(
                f"the question has {len(images)} images, and the profile {self._name!r} allows {most} (images.most): "
                "name another PRM, or a copy of the profile with images: {use: first}"
            )
        if self._rule.use == "all" or (self._rule.use == "tiled" and len(images) < 2):
            return images
        if self._rule.use == "tiled":
            return [self._canvas(images)]
        kept = images[:1] if self._rule.use == "first" else []
        if len(kept) < len(images) and not self._warned:
            self._warned = True
            which = "other images" if kept else "images"
            log.warning(
                "the profile %s has images.use=%s: steps are scored without the %s of their questions",
                self._name,
                self._rule.use,
                which,
            )
        return kept

    def _canvas(self, images: list[Image]) -> Image:
        """Returns the images as one; the same object for the same images, because encoders remember by object."""
        key = tuple(map(id, images))
        if key not in self._joined:
            self._joined[key] = (images, joined_images(images))
            if len(self._joined) > _JOINED:
                self._joined.popitem(last=False)
        return self._joined[key][1]


def joined_images(images: Sequence[Image]) -> Image:
    """Returns images in rows of `COLUMNS`, each in the middle of a cell of the largest width and height, on white.

    Raises:
        QuestionError: An image cannot be read.
    """
    from PIL import Image as Pictures

    pictures = [to_rgb(image) for image in images]
    columns = min(COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    width, height = (max(sizes) for sizes in zip(*(picture.size for picture in pictures), strict=True))
    canvas = Pictures.new("RGB", (columns * width, rows * height), "white")
    for at, picture in enumerate(pictures):
        row, column = divmod(at, columns)
        corner = (width - picture.width) // 2, (height - picture.height) // 2
        canvas.paste(picture, (column * width + corner[0], row * height + corner[1]))
    return canvas


def limit_images(processor: ProcessorMixin, rule: ImageRule, name: str) -> None:
    """Gives a processor the number of tiles and pixels of a profile's image rule.

    Args:
        processor: The PRM's own; it is changed.
        rule: The profile's image rule.
        name: The profile's name, for the message.

    Raises:
        AtomThinkError: The processor has no such limit.
    """
    images: Any = getattr(processor, "image_processor", None)
    if rule.tiles is not None:
        if not hasattr(images, "max_patches"):
            raise _no_limit(images, name, "tiles")
        images.max_patches = rule.tiles
    for field, edge in (("min_pixels", "shortest_edge"), ("max_pixels", "longest_edge")):
        pixels = getattr(rule, field)
        if pixels is None:
            continue
        if getattr(getattr(images, "size", None), edge, None) is None:
            raise _no_limit(images, name, field)
        setattr(images.size, edge, pixels)


def _no_limit(images: object, name: str, field: str) -> AtomThinkError:
    return AtomThinkError(
        f"prm_profile={name}: the profile has images.{field}, and the checkpoint's {type(images).__name__} has no such "
        "limit: name the profile of this checkpoint"
    )
