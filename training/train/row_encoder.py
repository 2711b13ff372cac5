"""The encoder of inference, quicker for many questions that are asked once: the same ids and the same pixels."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import torch

from atomthink_plugin.api import Prompt
from atomthink_plugin.inference.checkpoints import Checkpoint
from atomthink_plugin.inference.encoding import CROSS, Encoder, Encoding, fitted, to_rgb
from atomthink_plugin.model_adapters.emova_policy import ConversationEncoder
from atomthink_plugin.training.train.checkpoint import brings_code

if TYPE_CHECKING:
    from PIL.Image import Image

_HEADS: Final = 4096
"""Beginnings of prompts whose tokens are remembered."""


class RowEncoder(Encoder):
    """Encodes each question once, and tells a prompt's length without preparing images.

    The tokens up to the last image depend on the text and on the images' sizes alone, so they are remembered. Where the
    processor's image part alone gives the same pixels as the whole processor, which the first image shows, only that
    part is called from then on.

    Args:
        checkpoint: A checkpoint with a processor.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self._known: OrderedDict[tuple[str, tuple[tuple[int, int], ...]], dict[str, torch.Tensor]] = OrderedDict()
        self._alone: bool | None = None  # not known before the first image
        self._measured = False
        self._prepared: tuple[list[Image], Mapping[str, torch.Tensor]] = ([], {})

    def length(self, prompt: Prompt) -> int:
        """Returns the prompt's tokens; of its images only the sizes count.

        Raises:
            QuestionError: The processor refuses images of such sizes.
        """
        with self.measuring():
            return self.encode(prompt).length

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Makes encodings inside without preparing images: their lengths are right, and they have no media."""
        self._measured = True
        try:
            yield
        finally:
            self._measured = False

    def _head(self, text: str, images: list[Image]) -> Encoding:
        return self._process(text, images)

    def _process(self, text: str, images: list[Image]) -> Encoding:
        key = (text, tuple(image.size for image in images))
        tokens = self._known.get(key)
        if tokens is not None and (self._measured or not images):
            return Encoding(tokens, {}, len(images))
        if tokens is not None and self._alone:
            return Encoding(tokens, dict(self._pixels(images)), len(images))
        whole = super()._process(text, images)
        if images and self._alone is None and not self._measured:
            self._alone = CROSS not in whole.tokens and _same(self._pixels(images), whole.media)
        self._known[key] = whole.tokens
        if len(self._known) > _HEADS:
            self._known.popitem(last=False)
        return whole

    def _pixels(self, images: list[Image]) -> Mapping[str, torch.Tensor]:
        before, pixels = self._prepared
        # The steps of a chain, and what would have been right in their place, share their question's very images.
        if len(before) != len(images) or any(one is not other for one, other in zip(before, images, strict=True)):
            prepare = self._processor.image_processor
            pixels = prepare(images=[fitted(to_rgb(i), self._most_pixels) for i in images], return_tensors="pt")
            self._prepared = images, pixels
        return pixels


class ConversationRows(RowEncoder, ConversationEncoder):
    """The same for EMOVA, whose processor takes whole conversations."""


def row_encoder(checkpoint: Checkpoint) -> RowEncoder:
    """Returns the encoder of a checkpoint that is trained."""
    return ConversationRows(checkpoint) if brings_code(checkpoint.model.config) else RowEncoder(checkpoint)


def _same(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    return set(first) == set(second) and all(torch.equal(first[name], second[name]) for name in second)
