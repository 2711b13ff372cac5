"""Which solved questions are kept as examples: diverse and simple ones, or the most complex ones.

Sources: Auto-CoT (Zhang et al., arXiv 2210.03493) and its code: k-means over sentence embeddings, and from each cluster
the question nearest to the centre that passes rules of simplicity. Complexity-based prompting (Fu et al.,
arXiv 2210.00720): the examples with the most steps.

Different from Auto-CoT's code: a cluster in which no question passes the rules gives the one nearest to its centre; the
code gives none. All chains are right by their label, and the vectors are not those of Sentence-BERT.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from atomthink_plugin.examples.example_file import ExampleRecord

MAX_WORDS: Final = 60
"""Words of a simple question."""

MAX_STEPS: Final = 5
"""Steps of a simple chain before its conclusion."""

_SEED: Final = 0
_DIGITS: Final = 6  # decimals of a distance that decide


def is_simple(record: ExampleRecord) -> bool:
    """Returns whether an example passes Auto-CoT's rules: a short question, a short chain, a last step that ends."""
    short = len(record.question.split()) <= MAX_WORDS and len(record.steps) - 1 <= MAX_STEPS
    return short and record.steps[-1].endswith(".")


def from_clusters(records: Sequence[ExampleRecord], vectors: NDArray[np.float64], k: int) -> list[ExampleRecord]:
    """Returns one record of each of `k` clusters, in the order of the records.

    Args:
        records: The solved questions.
        vectors: One row for each.
        k: Number of clusters. Equal vectors give fewer.
    """
    from sklearn.cluster import KMeans

    k = min(k, len(np.unique(vectors, axis=0)))
    model = KMeans(n_clusters=k, n_init=10, random_state=_SEED).fit(vectors)
    distances = model.transform(vectors).round(_DIGITS)
    chosen = []
    for cluster in range(k):
        found = np.flatnonzero(model.labels_ == cluster)
        members: list[int] = found[np.argsort(distances[found, cluster], kind="stable")].tolist()
        chosen.append(next((at for at in members if is_simple(records[at])), members[0]))
    return [records[at] for at in sorted(chosen)]


def most_steps(records: Sequence[ExampleRecord], k: int) -> list[ExampleRecord]:
    """Returns the `k` records with the most steps, in the order of the records. Of equal ones the earlier count."""
    order = sorted(range(len(records)), key=lambda at: (-len(records[at].steps), at))
    return [records[at] for at in sorted(order[:k])]
