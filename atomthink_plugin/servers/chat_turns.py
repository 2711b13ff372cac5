"""Messages as OpenAI's chat protocol writes them, images as data URLs."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any

from atomthink_plugin.api import Message
from atomthink_plugin.image_memo import PerImage
from atomthink_plugin.inference.encoding import to_rgb
from atomthink_plugin.inference.message_parts import joined
from atomthink_plugin.servers.pictures import NAME, picture_name

if TYPE_CHECKING:
    from PIL.Image import Image

Turn = Mapping[str, Any]
"""One message as the protocol writes it."""


class ChatTurns:
    """Writes messages; an image is encoded once while it lives.

    Args:
        named: Whether images have names, which only servers get that keep images, see `Pictures`.
    """

    def __init__(self, *, named: bool = True) -> None:
        self._image = PerImage(partial(_image_part, named=named))

    def __call__(self, messages: Sequence[Message]) -> tuple[Turn, ...]:
        """Returns the messages as turns.

        Raises:
            QuestionError: An image cannot be read.
        """
        return tuple({"role": message.role, "content": self._content(message)} for message in messages)

    def _content(self, message: Message) -> str | list[dict[str, Any]]:
        """Texts that follow each other are joined here: servers would put line breaks between them."""
        parts: list[dict[str, Any]] = [
            {"type": "text", "text": part} if isinstance(part, str) else self._image(part)
            for part in joined(message.parts)
        ]
        # A plain string is what every server and every chat template takes.
        return str(parts[0]["text"]) if len(parts) == 1 and parts[0]["type"] == "text" else parts


def _image_part(image: Image, named: bool) -> dict[str, Any]:
    url = data_url(image)
    part: dict[str, Any] = {"type": "image_url", "image_url": {"url": url}}
    return {**part, NAME: picture_name(url)} if named else part


def data_url(image: Image) -> str:
    """Returns an image as a data URL, its pixels unchanged.

    Raises:
        QuestionError: It cannot be read.
    """
    picture = to_rgb(image)
    # Metadata of the file (a transparent colour, a profile) would change its pixels in the conversion.
    picture.info.clear()
    png = BytesIO()
    picture.save(png, "PNG")
    return f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
