"""Functions that remember their last results."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Memo(Generic[P, T]):
    """A function that remembers its last results. A pickle of it has the function alone.

    Args:
        make: The function.
        size: How many results are remembered.
    """

    def __init__(self, make: Callable[P, T], size: int) -> None:
        self._recipe = (make, size)
        self._call: Callable[..., T] = lru_cache(size)(make)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Returns the function's result."""
        return self._call(*args, **kwargs)

    def __reduce__(self) -> tuple[type[Memo[P, T]], tuple[Callable[P, T], int]]:
        """Returns what a pickle has."""
        return Memo, self._recipe
