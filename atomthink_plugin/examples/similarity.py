"""What the ways of choosing share: the question itself is left out, ties go to the earlier example."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from atomthink_plugin.api import Example, Question

_DIGITS: Final = 6
"""Decimals of a similarity. Rounding errors of a forward pass depend on its batch and must not decide."""


def others(examples: Sequence[Example], question: Question) -> list[int]:
    """Returns the indices of the examples that are not the question itself.

    An example is the question itself if its text, without case and spaces, stands in what is asked. The prompt of a
    task often has more than the question: a hint, or the form of the answer.
    """
    asked = _normal(question.text)
    return [index for index, example in enumerate(examples) if _normal(example.question) not in asked]


def nearest(similarities: Sequence[float] | NDArray[np.float64], allowed: Sequence[int], k: int) -> list[int]:
    """Returns up to `k` of the allowed indices, the most similar one last. Ties go to the smaller index."""
    order = sorted(allowed, key=lambda index: (-round(float(similarities[index]), _DIGITS), index))
    return order[:k][::-1]


def cosines(rows: NDArray[np.float64], vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the cosine of the angle between each row and the vector, 0 for a vector without a length."""
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(vector)
    products: NDArray[np.float64] = rows @ vector
    found: NDArray[np.float64] = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    return found


def _normal(text: str) -> str:
    return "".join(text.casefold().split())
