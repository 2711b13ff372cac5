"""The policy's own confidence: no further model and no cost."""

from __future__ import annotations

import math

from atomthink_plugin.api import AtomThinkError, Path, Score
from atomthink_plugin.scorers.scored_step import last_step


class Confidence:
    """Scores a step by the geometric mean of its tokens' probabilities under the policy that wrote it.

    A step that the search wrote itself was not sampled: it counts as certain.
    """

    identity = "confidence"

    async def score(self, path: Path) -> Score:
        """Scores the last step of `path`.

        Raises:
            AtomThinkError: The policy gave no tokens or no log-probability with the step.
        """
        step = last_step(path)
        if not step.role:
            return Score(1.0)
        if not step.token_ids or step.logprob is None:
            raise AtomThinkError(
                "scorer=confidence needs the policy's token ids and log-probabilities, and this policy gives none: "
                "name a process reward model with prm=, or for policy=openai a server that gives `logprobs`"
            )
        return Score(math.exp(step.logprob / len(step.token_ids)))


def confidence() -> Confidence:
    """Scores a step by the policy's own probability of its tokens (their geometric mean). It needs no PRM.

    The policy has to give token ids and log-probabilities. Models of lmms-eval (`atomthink_lmms`) give none.
    """
    return Confidence()
