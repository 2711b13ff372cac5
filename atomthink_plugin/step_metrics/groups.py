"""Groups of solutions: those of one question, and those of one subset."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from atomthink_plugin.step_metrics.judged_steps import JudgedSteps


def by_question(solutions: Sequence[JudgedSteps]) -> list[list[int]]:
    """Returns the indices of each question's solutions."""
    indices: dict[str, list[int]] = {}
    for index, solution in enumerate(solutions):
        indices.setdefault(solution.truth.question, []).append(index)
    return list(indices.values())


def by_subset(solutions: Sequence[JudgedSteps]) -> dict[str, NDArray[np.bool_]]:
    """Returns which solutions are in each subset."""
    subset_of = np.array([solution.truth.subset for solution in solutions])
    return {str(name): subset_of == name for name in np.unique(subset_of)}
