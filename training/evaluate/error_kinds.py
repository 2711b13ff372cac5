"""How many wrong steps a process reward model finds, by the kind of their error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np

from atomthink_plugin.training.evaluate.bootstrap import Bootstrap, MetricValue, metric_value, ratio
from atomthink_plugin.training.evaluate.scores import ScoredChain
from atomthink_plugin.training.records import ErrorKind


def error_recall(chains: Sequence[ScoredChain], threshold: float, bootstrap: Bootstrap) -> Mapping[str, MetricValue]:
    """Returns the share of wrong steps with a score below the threshold, for each kind of error in the set.

    Counts are steps that are labelled wrong and have a kind; `all` is over all kinds.
    """
    kinds = get_args(ErrorKind)
    table = np.zeros((len(chains), 2, len(kinds)))  # wrong steps, and those below the threshold
    for row, chain in zip(table, chains, strict=True):
        for score, kind in zip(chain.scores, chain.item.chain.wrong_kinds(), strict=True):
            if kind is not None:
                row[:, kinds.index(kind)] += 1, score < threshold
    wrong, found = np.moveaxis(bootstrap.sums(table.reshape(len(chains), -1)).reshape(-1, 2, len(kinds)), 1, 0)
    groups = {"all": [*range(len(kinds))], **{kind: [at] for at, kind in enumerate(kinds)}}
    return {
        name: metric_value(ratio(found[:, own].sum(axis=1), wrong[:, own].sum(axis=1)), int(wrong[0, own].sum()))
        for name, own in groups.items()
        if wrong[0, own].any()
    }
