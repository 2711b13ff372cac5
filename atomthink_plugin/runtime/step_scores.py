"""The scorer's verdicts on the steps of one question."""

from __future__ import annotations

import asyncio

from atomthink_plugin.api import Aggregate, AtomThinkError, Path, QuestionError, Scorer, ServerError, Usage
from atomthink_plugin.exits import no_exit
from atomthink_plugin.runtime.nodes import NodeTable
from atomthink_plugin.searches.aggregates import AGGREGATES


class StepScores:
    """Asks the scorer at most once per node; concurrent calls for one node share one request.

    Attributes:
        usage: What the verdicts cost.

    Args:
        scorer: None for searches that do without.
        nodes: Where the verdicts are noted.
        given: Steps that the question gives; they are no candidates.
    """

    def __init__(self, scorer: Scorer | None, nodes: NodeTable, given: int) -> None:
        self.usage = Usage()
        self._scorer = scorer
        self._nodes = nodes
        self._given = given
        self._verdicts: dict[str, asyncio.Future[float]] = {}

    async def score(self, path: Path) -> float:
        """Returns the score of the last step."""
        return await self._verdict(path)

    async def value(self, path: Path, aggregate: Aggregate) -> float:
        """Returns the aggregate of all step scores of `path`; 0.0 for the root."""
        if aggregate == "last":
            return await self.score(path) if path.step else 0.0
        verdicts = [self._verdict(node) for node in path.lineage]
        await asyncio.gather(*(verdict for verdict in verdicts if not verdict.done()))
        return AGGREGATES[aggregate]([verdict.result() for verdict in verdicts]) if verdicts else 0.0

    def known(self) -> dict[str, float]:
        """Returns the scores that were given, by node."""
        return {
            key: future.result()
            for key, future in self._verdicts.items()
            if future.done() and not future.cancelled() and future.exception() is None
        }

    def _verdict(self, path: Path) -> asyncio.Future[float]:
        if path.key not in self._verdicts:
            self._verdicts[path.key] = asyncio.ensure_future(self._ask(path))
        return self._verdicts[path.key]

    async def _ask(self, path: Path) -> float:
        if self._scorer is None:
            raise AtomThinkError("this search scores steps and the run has no scorer: pass `prm=` or `scorer=`")
        try:
            with no_exit("the scorer"):
                score = await self._scorer.score(path)
        except QuestionError as error:
            if isinstance(error, ServerError) or path.depth <= self._given + 1:
                raise
            # One candidate that the scorer cannot read must not cost the question; the journal says why it lost.
            self._nodes.reject(path.key, f"cannot be scored: {error}")
            return 0.0
        self.usage += score.usage
        if not 0.0 <= score.value <= 1.0:
            raise AtomThinkError(f"the scorer gave {score.value!r} for a step; scores must be in [0, 1]")
        self._nodes.score(path.key, score.value)
        return score.value
