"""Nearest examples by the words that they share with the question, rare words counting more (TF-IDF)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atomthink_plugin.api import Example, Policy, Question
from atomthink_plugin.examples.similarity import nearest, others


class TfidfExamples:
    """The nearest examples by the cosine of TF-IDF vectors of the questions' texts. Needs no model.

    Args:
        examples: Those of the file.
    """

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples
        self._vectorizer, self._rows = fitted([example.question for example in examples])

    async def nearest(self, question: Question, k: int, policy: Policy) -> Sequence[Example]:
        """Returns the `k` examples with the most similar words, the most similar one last."""
        return await asyncio.to_thread(self._nearest, question, k)

    def _nearest(self, question: Question, k: int) -> Sequence[Example]:
        similarities = (self._rows @ self._vectorizer.transform([question.text]).T).toarray().ravel()
        return [self._examples[index] for index in nearest(similarities, others(self._examples, question), k)]


def fitted(texts: Sequence[str]) -> tuple[Any, Any]:
    """Returns scikit-learn's vectorizer, fitted to the texts, and their vectors of length 1 as a sparse matrix."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    # Single digits and letters are words here: questions of mathematics differ in them.
    vectorizer = TfidfVectorizer(token_pattern=r"(?u)\w+|[^\w\s]", sublinear_tf=True)
    return vectorizer, vectorizer.fit_transform(texts)


def tfidf_vectors(texts: Sequence[str]) -> NDArray[np.float64]:
    """Returns the TF-IDF vectors of the texts, one row each."""
    vectors: NDArray[np.float64] = fitted(texts)[1].toarray()
    return vectors
