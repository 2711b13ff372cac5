"""Clusters steps by what they do: by the similarity of their texts without numbers.

A cluster is called a behaviour, as in AtomThink.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.feature_extraction.text import TfidfVectorizer

from atomthink_plugin.formats.steps import body

NUMBER: Final = re.compile(r"\${1,2}[^$]+\${1,2}|\\\(.+?\\\)|\\\[.+?\\\]|\d+(?:[.,]\d+)*", re.DOTALL)
"""Numbers and LaTeX formulas. They are masked, because the words of a step say what it does."""

TOKEN: Final = r"[^\W\d_]+|#|[^\w\s.,;:?!\"']"
"""Words, numbers (as `#`) and signs. The sign of an operation distinguishes calculations."""

SPREAD: Final = 0.5
"""Mean cosine distance up to which clusters are joined. The value is small, because steps in one cluster get the same
ability, while several clusters may share one."""

MAX_PAIRWISE: Final = 5000
"""Texts that are clustered by their pairwise distances. More texts are first grouped by k-means."""

EXAMPLES: Final = 5
TERMS: Final = 3


@dataclass(frozen=True, slots=True)
class Behaviour:
    """A cluster of steps.

    Attributes:
        terms: Its most characteristic words, in the order of its most frequent text.
        examples: Its most frequent texts, with `#` for numbers.
        size: Number of steps.
    """

    terms: tuple[str, ...]
    examples: tuple[str, ...]
    size: int

    @property
    def name(self) -> str:
        """The name of a behaviour that a labeller does not name."""
        return " ".join(self.terms)


def masked(step: str) -> str:
    """Returns a step in lower case, without its label, and with `#` for numbers and formulas.

    Example:
        >>> masked("Step 4: Compute 12 x 7 = 84.")
        'compute # x # = #.'
    """
    return NUMBER.sub("#", body(step)).casefold()


def vectorizer(**options: Any) -> TfidfVectorizer:
    """Returns the vectorizer of clustering and labelling."""
    return TfidfVectorizer(token_pattern=TOKEN, sublinear_tf=True, **options)


def cluster_steps(steps: Iterable[str]) -> tuple[list[Behaviour], dict[str, int]]:
    """Clusters steps.

    Returns:
        The behaviours, the most frequent first, and the index of the behaviour of each masked text. The result does
        not depend on the order of the steps.
    """
    counts = Counter(map(masked, steps))
    texts = sorted(counts)
    tfidf = vectorizer(ngram_range=(1, 2))
    labels = _clusters(tfidf.fit_transform(texts).toarray())
    grouped: defaultdict[int, list[str]] = defaultdict(list)
    for text, label in zip(texts, labels, strict=True):
        grouped[label].append(text)
    members = sorted(grouped.values(), key=lambda own: (-sum(counts[text] for text in own), own))
    behaviours = [_behaviour(own, counts, tfidf) for own in members]
    return behaviours, {text: index for index, own in enumerate(members) for text in own}


def _clusters(vectors: Any) -> Sequence[int]:
    if len(vectors) == 1:
        return [0]
    groups = np.arange(len(vectors))
    if len(vectors) > MAX_PAIRWISE:
        means = KMeans(MAX_PAIRWISE // 2, random_state=0, n_init=1).fit(vectors)
        groups, vectors = means.labels_, means.cluster_centers_
    joined = AgglomerativeClustering(None, metric="cosine", linkage="average", distance_threshold=SPREAD).fit(vectors)
    return [int(label) for label in joined.labels_[groups]]


def _behaviour(texts: Sequence[str], counts: Counter[str], tfidf: TfidfVectorizer) -> Behaviour:
    ranked = sorted(texts, key=lambda text: (-counts[text], text))
    weights = np.asarray(tfidf.transform(ranked).mean(axis=0)).ravel()
    names = tfidf.get_feature_names_out()
    words = [i for i in np.argsort(-weights, kind="stable") if weights[i] > 0 and re.fullmatch(r"[^\s#=]+", names[i])]
    terms = sorted((str(names[i]) for i in words[:TERMS]), key=" ".join(ranked).find)
    return Behaviour(
        terms=tuple(terms),
        examples=tuple(ranked[:EXAMPLES]),
        size=sum(counts[text] for text in texts),
    )
