"""The scores of the steps of one question."""

from __future__ import annotations

import asyncio

from atomthink_plugin.api import Aggregate, AtomThinkError, Path, QuestionError, Scorer, ServerError, Usage
from atomthink_plugin.exits import no_exit
from atomthink_plugin.runtime.nodes import NodeTable
from atomthink_plugin.searches.parts.aggregates import AGGREGATES


class StepScores:
    """Asks the scorer at most once per node. Concurrent calls for one node share one request.

    Attributes:
        usage: The cost of the scores.

    Args:
        scorer: The scorer, None for searches without a scorer.
        nodes: Records the scores.
        given: Number of steps in the question's history. They are not candidates.
    """

    def __init__(self, scorer: Scorer | None, nodes: NodeTable, given: int) -> None:
        self.usage = Usage()
        self._scorer = scorer
        self._nodes = nodes
        self._given = given
        self._verdicts: dict[str, asyncio.Task[float]] = {}
        self._unreadable: dict[str, QuestionError] = {}

    @property
    def available(self) -> bool:
        """Whether there is a scorer."""
        return self._scorer is not None

    async def score(self, path: Path) -> float:
        """Returns the score of the last step."""
        return await self._verdict(path)

    async def value(self, path: Path, aggregate: Aggregate) -> float:
        """Returns the aggregate of all step scores of `path`, 0.0 for the root."""
        if aggregate == "last":
            return await self.score(path) if path.step else 0.0
        verdicts = [self._verdict(node) for node in path.lineage]
        await asyncio.gather(*(verdict for verdict in verdicts if not verdict.done()))
        return AGGREGATES[aggregate]([verdict.result() for verdict in verdicts]) if verdicts else 0.0

    def known(self) -> dict[str, float]:
        """Returns the scores that have arrived, by node."""
        return {
            key: verdict.result()
            for key, verdict in self._verdicts.items()
            if verdict.done() and not verdict.cancelled() and verdict.exception() is None
        }

    def require_one(self) -> None:
        """Raises the scorer's QuestionError if steps were scored and the scorer could read none of them."""
        if self._unreadable and self._unreadable.keys() == self.known().keys():
            raise self._unreadable[min(self._unreadable)]

    async def close(self) -> None:
        """Cancels the requests in flight."""
        for verdict in self._verdicts.values():
            verdict.cancel()
        await asyncio.gather(*self._verdicts.values(), return_exceptions=True)

    def _verdict(self, path: Path) -> asyncio.Task[float]:
        verdict = self._verdicts.get(path.key)
        if verdict is None or verdict.cancelled():  # its earlier caller may have been cancelled
            verdict = self._verdicts[path.key] = asyncio.create_task(self._ask(path))
        return verdict

    async def _ask(self, path: Path) -> float:
        if self._scorer is None:
            raise AtomThinkError("this search scores steps and the run has no scorer. Pass `prm=` or `scorer=`")
        if path.step is None:
            raise AtomThinkError("the search scores a root, which has no step. Score its children")
        try:
            with no_exit("the scorer"):
                score = await self._scorer.score(path)
        except QuestionError as error:
            if isinstance(error, ServerError) or path.depth <= self._given + 1:
                raise
            # One candidate that the scorer cannot read must not fail the question. The journal records the reason.
            self._unreadable[path.key] = error
            self._nodes.reject(path.key, f"cannot be scored: {error}")
            return 0.0
        self.usage += score.usage
        if not 0.0 <= score.value <= 1.0:
            raise AtomThinkError(f"the scorer returned {score.value!r} for a step. Scores must be in [0, 1]")
        self._nodes.score(path.key, score.value)
        return score.value
