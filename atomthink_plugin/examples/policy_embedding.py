"""Nearest examples by the policy's own embedding of the questions' texts.

Source: Medprompt (Nori et al., arXiv 2311.16452) chooses the nearest neighbours by a separate embedding model
(text-embedding-ada-002). Here the vector of a text is the mean of the policy's last hidden states, so that no second
model is loaded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from atomthink_plugin.api import AtomThinkError, EmbeddingPolicy, Example, Policy, Question
from atomthink_plugin.examples.similarity import cosines, nearest, others


class EmbeddedExamples:
    """The nearest examples by the cosine of the policy's vectors of the questions' texts.

    The examples are embedded once for each policy, when the first question asks for them.

    Args:
        examples: Those of the file.
    """

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples
        self._rows: dict[str, asyncio.Task[NDArray[np.float64]]] = {}

    def check_policy(self, policy: Policy) -> None:
        """Raises AtomThinkError if the policy cannot embed texts."""
        embedding(policy, "format_nearest=policy", "format_nearest=tfidf")

    async def nearest(self, question: Question, k: int, policy: Policy) -> Sequence[Example]:
        """Returns the `k` examples with the most similar vectors, the most similar one last."""
        able = embedding(policy, "format_nearest=policy", "format_nearest=tfidf")
        rows = await self._embedded(able)
        (vector,) = await policy_vectors([question.text], able)
        chosen = nearest(cosines(rows, vector), others(self._examples, question), k)
        return [self._examples[index] for index in chosen]

    async def _embedded(self, policy: EmbeddingPolicy) -> NDArray[np.float64]:
        """Returns the vectors of the examples. Questions that ask at the same time wait for one embedding."""
        task = self._rows.get(policy.identity)
        if task is None or task.cancelled():
            task = asyncio.create_task(policy_vectors([example.question for example in self._examples], policy))
            self._rows[policy.identity] = task
        return await asyncio.shield(task)  # a question that is cancelled must not end it for the others


def embedding(policy: Policy, typed: str, instead: str) -> EmbeddingPolicy:
    """Returns the policy as one that embeds texts.

    Args:
        policy: The policy.
        typed: The argument that needs the embedding, for the error.
        instead: The argument to use instead.

    Raises:
        AtomThinkError: It cannot.
    """
    if not hasattr(policy, "embed"):
        raise AtomThinkError(
            f"`{typed}` needs a policy that gives its hidden states, such as one of transformers, and "
            f"{policy.identity} does not: pass `{instead}`"
        )
    return cast(EmbeddingPolicy, policy)


async def policy_vectors(texts: Sequence[str], policy: EmbeddingPolicy) -> NDArray[np.float64]:
    """Returns the policy's vectors of the texts, one row each."""
    return np.asarray(await policy.embed(texts), dtype=np.float64)
