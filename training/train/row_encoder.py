"""The encoder of inference, faster for many questions that are asked once: the same ids and the same pixels."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from PIL import Image as Pictures

from atomthink_plugin.inference.checkpoints import Checkpoint
from atomthink_plugin.inference.encoding import CROSS, Encoder, Encoding, fitted, to_rgb
from atomthink_plugin.inference.image_input import fitting, read_image, upright_size
from atomthink_plugin.model_adapters.emova_policy import ConversationEncoder
from atomthink_plugin.training.train.checkpoint import brings_code

if TYPE_CHECKING:
    from PIL.Image import Image

_PROMPTS: Final = 4096
"""Prompts whose tokens are cached."""


class RowEncoder(Encoder):
    """Encodes each question once, and can measure prompts without preparing images.

    The tokens up to the last image depend only on the text and on the sizes of the images, so they are cached. If the
    image processor alone gives the same pixels as the whole processor, which is tested with the first image, then only
    the image processor is called from then on.

    Args:
        checkpoint: A checkpoint with a processor.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self._known: OrderedDict[tuple[str, tuple[tuple[int, int], ...]], Encoding] = OrderedDict()
        self._images_alone: bool | None = None  # unknown until the first image
        self._measuring = False
        self._prepared: tuple[list[Image], Mapping[str, torch.Tensor]] = ([], {})

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Leaves images out of the encodings that are made inside; their lengths are right."""
        self._measuring = True
        try:
            yield
        finally:
            self._measuring = False

    def _head(self, text: str, images: list[Image]) -> Encoding:
        return self._process(text, images)

    def _process(self, text: str, images: list[Image]) -> Encoding:
        key = (text, tuple(image.size for image in images))
        known = self._known.get(key)
        if known is not None and (self._measuring or not images):
            return known
        if known is not None and self._images_alone:
            return replace(known, media=dict(self._pixels(images)))
        whole = super()._process(text, images)
        if images and self._images_alone is None and not self._measuring:
            own = CROSS in whole.beside or bool(whole.lists)  # what the image processor may not know
            self._images_alone = not own and _equal(self._pixels(images), whole.media)
        self._known[key] = Encoding(whole.ids, whole.beside, {}, len(images))
        if len(self._known) > _PROMPTS:
            self._known.popitem(last=False)
        return whole

    def _pixels(self, images: list[Image]) -> Mapping[str, torch.Tensor]:
        last, pixels = self._prepared
        # The steps of a chain, and their corrections, share the image objects of their question.
        if len(last) != len(images) or any(one is not other for one, other in zip(last, images, strict=True)):
            prepare = self._processor.image_processor
            pixels = prepare(images=[fitted(to_rgb(i), self._most_pixels) for i in images], return_tensors="pt")
            self._prepared = images, pixels
        return pixels


class ConversationRowEncoder(RowEncoder, ConversationEncoder):
    """The same for EMOVA, whose processor takes whole conversations."""


def row_encoder(checkpoint: Checkpoint) -> RowEncoder:
    """Returns the encoder of a checkpoint that is trained."""
    return ConversationRowEncoder(checkpoint) if brings_code(checkpoint.model.config) else RowEncoder(checkpoint)


def load_image(file: Path, max_pixels: int | None) -> Image:
    """Returns an image in RGB, scaled down to `max_pixels` if it has more, as inference does."""
    return fitted(read_image(file), max_pixels)


def blank_image(file: Path, max_pixels: int | None) -> Image:
    """Returns a blank image of the size that `load_image` returns, without reading the file's pixels."""
    with Pictures.open(file) as image:
        return Pictures.new("RGB", fitting(upright_size(image), max_pixels))


def _equal(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    return set(first) == set(second) and all(torch.equal(first[name], second[name]) for name in second)
