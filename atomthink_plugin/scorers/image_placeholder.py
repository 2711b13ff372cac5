"""What stands for an image in token ids for a server, which prepares the image itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from atomthink_plugin.api import QuestionError
from atomthink_plugin.inference.encoding import Encoder

_ORIGINAL_INTERNVL: Final = "internvl_chat"
"""Type in the config.json of checkpoints in the format of InternVL's original code."""

_ORIGINAL_IMAGE: Final = "<image>"
"""What vLLM replaces by the tokens of an image and the tokens before and after them, in checkpoints of that format."""


@dataclass(frozen=True, slots=True)
class ImagePlaceholder:
    """What a server replaces by the tokens of an image.

    Attributes:
        token: Id of each of the tokens of an image, as the model reads them.
        written: What stands for all of them in a request.
        around: Whether it also stands for one token before and one after them.
    """

    token: int
    written: tuple[int, ...]
    around: bool = False

    def unexpanded(self, ids: Sequence[int], images: int) -> list[int]:
        """Returns the ids of a prompt with a placeholder for each image.

        Args:
            ids: The prompt as the model reads it.
            images: Number of its images.

        Raises:
            QuestionError: The number of places for images in the prompt is not that of its images.
        """
        parts = list(self._parts(ids))
        found = sum(part is None for part in parts)
        if found != images:
            raise QuestionError(
                f"the prompt has {found} places with tokens of images, and the question has {images} images: load the "
                "PRM in this process (leave out prm_base_url=)"
            )
        return [token for part in parts for token in (self.written if part is None else part)]

    def _parts(self, ids: Sequence[int]) -> Iterator[Sequence[int] | None]:
        """Yields the texts before, between and after the images, and None for each image."""
        start = 0
        for at, token in enumerate(ids):
            if token != self.token:
                continue
            if at == 0 or ids[at - 1] != self.token:
                yield ids[start : at - self.around]
                yield None
            start = at + 1 + self.around
        yield ids[start:]


def image_placeholder(encoder: Encoder, config: Mapping[str, Any]) -> ImagePlaceholder:
    """Returns what stands for an image in requests for a checkpoint.

    Args:
        encoder: The checkpoint's.
        config: Its config.json.
    """
    tokenizer = encoder.tokenizer
    token: int = tokenizer.convert_tokens_to_ids(encoder.placeholder)  # type: ignore[assignment]
    if config.get("model_type") == _ORIGINAL_INTERNVL:
        return ImagePlaceholder(token, tuple(tokenizer.encode(_ORIGINAL_IMAGE, add_special_tokens=False)), around=True)
    return ImagePlaceholder(token, (token,))
