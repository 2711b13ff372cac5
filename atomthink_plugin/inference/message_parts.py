"""The parts of a message as models take them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image


def joined(parts: Sequence[str | Image]) -> list[str | Image]:
    """Returns the parts with adjacent texts joined: chat templates and servers would put line breaks between them."""
    runs = groupby(parts, lambda part: isinstance(part, str))
    return [part for textual, run in runs for part in (["".join(map(str, run))] if textual else run)]
