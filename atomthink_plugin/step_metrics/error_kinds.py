"""How many wrong steps a critic finds, by the kind of their error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atomthink_plugin.step_metrics.bootstrap import Bootstrap, Values, metric_value, ratio
from atomthink_plugin.step_metrics.judged_steps import JudgedSteps


def error_recall(solutions: Sequence[JudgedSteps], bootstrap: Bootstrap) -> Values:
    """Returns the share of wrong steps that are judged wrong, for each kind of error in the set.

    Counts are steps that are labelled wrong and have a kind; `all` is over all kinds.
    """
    kinds = sorted({kind for solution in solutions for kind in solution.truth.kinds if kind is not None})
    if not kinds:
        return {}
    table = np.zeros((len(solutions), 2, len(kinds)))  # wrong steps, and those judged wrong
    for row, solution in zip(table, solutions, strict=True):
        for verdict, kind in zip(solution.verdicts, solution.truth.kinds, strict=False):
            if kind is not None:
                row[:, kinds.index(kind)] += 1, verdict is False
    wrong, found = np.moveaxis(bootstrap.sums(table.reshape(len(solutions), -1)).reshape(-1, 2, len(kinds)), 1, 0)
    groups = {"all": [*range(len(kinds))], **{kind: [at] for at, kind in enumerate(kinds)}}
    return {
        name: metric_value(ratio(found[:, own].sum(axis=1), wrong[:, own].sum(axis=1)), int(wrong[0, own].sum()))
        for name, own in groups.items()
    }
