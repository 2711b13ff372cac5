"""The same examples for every question, as in few-shot chain-of-thought prompting.

Source: Wei et al., arXiv 2201.11903.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atomthink_plugin.api import Example, Policy, Question
from atomthink_plugin.examples.similarity import others


@dataclass(frozen=True, slots=True)
class FixedExamples:
    """The first examples of the file, in its order.

    Attributes:
        examples: Those of the file.
    """

    examples: Sequence[Example]

    async def nearest(self, question: Question, k: int, policy: Policy) -> Sequence[Example]:
        """Returns the first `k` examples that are not the question itself."""
        return [self.examples[index] for index in others(self.examples, question)[:k]]
