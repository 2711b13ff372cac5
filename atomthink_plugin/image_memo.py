"""Values that are computed once per image and shared by all steps and samples."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")


class PerImage(Generic[T]):
    """A function of an image that is called once while the image lives.

    Args:
        make: What is remembered; it must not keep the image.
    """

    def __init__(self, make: Callable[[Image], T]) -> None:
        self._make = make
        self._made: dict[int, T] = {}

    def __call__(self, image: Image) -> T:
        """Returns what `make` gave for this image."""
        key = id(image)
        if key not in self._made:
            self._made[key] = self._make(image)
            weakref.finalize(image, self._made.pop, key, None)
        return self._made[key]
