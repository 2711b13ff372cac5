"""Ten labelled and scored chains, small enough to count by hand; test_metrics.py has the results."""

from __future__ import annotations

from collections.abc import Sequence

from atomthink_plugin.training.evaluate.readers import LabelledChain
from atomthink_plugin.training.evaluate.scores import ScoredChain
from atomthink_plugin.training.records import Chain, ErrorKind

R, W = 1.0, 0.0
N = None


def scored(
    labels: Sequence[float | None],
    scores: Sequence[float],
    name: str = "c",
    question: str = "q",
    subset: str = "",
    right: bool | None = None,
    kinds: Sequence[ErrorKind | None] | None = None,
) -> ScoredChain:
    steps = tuple(f"Step {number}: {name}." for number in range(1, len(labels) + 1))
    chain = Chain(id=name, question=question, steps=steps, labels=tuple(labels), error_kinds=kinds)
    return ScoredChain(LabelledChain(chain, question, subset, right=right), tuple(scores))


TEN = [
    scored([R, R, R], [0.9, 0.8, 0.7], "1", "q1", "a", True),  # no error, none seen
    scored([R, W, N], [0.9, 0.2, 0.6], "2", "q1", "a", False),  # seen where it is
    scored([W, N], [0.6, 0.3], "3", "q2", "a", False),  # seen a step late
    scored([R, R, W], [0.4, 0.9, 0.1], "4", "q2", "a", False),  # seen two steps early
    scored([R, R], [0.8, 0.4], "5", "q3", "a", True),  # one seen where none is
    scored([R, W, W], [0.7, 0.1, 0.9], "6", "q4", "b", False),  # seen where it is
    scored([R, R], [0.6, 0.9], "7", "q4", "b", True),  # no error, none seen
    scored([R, N, R], [0.9, 0.1, 0.8], "8", "q5", "b"),  # nobody knows whether there is an error
    scored([W], [0.95], "9", "q6", "b"),  # not seen
    scored([0.5, R, R, R], [0.5, 0.5, 0.5, 0.5], "10", "q6", "b"),  # a half is right, in labels and in scores
]
