"""The scores of the steps of one question."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from atomthink_plugin.api import (
    Aggregate,
    AtomThinkError,
    ChainScorer,
    CriticScorer,
    Path,
    QuestionError,
    Score,
    Scorer,
    ServerError,
    Usage,
)
from atomthink_plugin.exits import no_exit
from atomthink_plugin.runtime.budget import Budget, BudgetSpentError
from atomthink_plugin.runtime.critic_calls import BudgetedCritic
from atomthink_plugin.runtime.nodes import NodeTable
from atomthink_plugin.searches.parts.aggregates import AGGREGATES


class StepScores:
    """Asks the scorer at most once per node. Concurrent calls for one node share one request.

    A scorer that reads whole chains is asked once per chain. The steps of a chain then have the scores of that reading.

    Args:
        scorer: The scorer, None for searches without a scorer.
        nodes: Records the scores.
        given: Number of steps in the question's history. They are not candidates.
        budget: The question's budget. A generative scorer spends its tokens.
    """

    def __init__(self, scorer: Scorer | None, nodes: NodeTable, given: int, budget: Budget) -> None:
        self._usage = Usage()
        self._critic: BudgetedCritic | None = None
        if isinstance(scorer, CriticScorer):
            self._critic = BudgetedCritic(scorer.critic, budget)
            scorer = scorer.for_question(self._critic)
        self._scorer = scorer
        self._nodes = nodes
        self._given = given
        self._verdicts: dict[str, asyncio.Task[list[float]]] = {}
        self._known: dict[str, float] = {}
        self._unreadable: dict[str, QuestionError] = {}

    @property
    def available(self) -> bool:
        """Whether there is a scorer."""
        return self._scorer is not None

    @property
    def usage(self) -> Usage:
        """The cost of the scores. That of a critic includes replies without a score, such as those before a failure."""
        return self._usage if self._critic is None else self._usage + self._critic.usage

    async def score(self, path: Path) -> float:
        """Returns the score of the last step."""
        if isinstance(self._scorer, ChainScorer) and path.key in self._known:
            return self._known[path.key]
        return (await self._verdict(path))[-1]

    async def value(self, path: Path, aggregate: Aggregate) -> float:
        """Returns the aggregate of all step scores of `path`, 0.0 for the root."""
        if path.step is None:
            return 0.0
        if aggregate == "last":
            return await self.score(path)
        ends = [path] if isinstance(self._scorer, ChainScorer) else path.lineage
        verdicts = [self._verdict(node) for node in ends]
        await asyncio.gather(*(verdict for verdict in verdicts if not verdict.done()))
        return AGGREGATES[aggregate]([score for verdict in verdicts for score in verdict.result()])

    def known(self) -> dict[str, float]:
        """Returns the scores that have arrived, by node."""
        return dict(self._known)

    def require_one(self) -> None:
        """Raises the scorer's QuestionError if steps were scored and the scorer could read none of them."""
        if self._unreadable and self._unreadable.keys() == self._known.keys():
            raise self._unreadable[min(self._unreadable)]

    async def close(self) -> None:
        """Cancels the requests in flight."""
        for verdict in self._verdicts.values():
            verdict.cancel()
        await asyncio.gather(*self._verdicts.values(), return_exceptions=True)

    def _verdict(self, path: Path) -> asyncio.Task[list[float]]:
        """Returns the scores of one request: the last step's, or those of all steps for a scorer of chains."""
        verdict = self._verdicts.get(path.key)
        if verdict is None or verdict.cancelled():  # its earlier caller may have been cancelled
            verdict = self._verdicts[path.key] = asyncio.create_task(self._ask(path))
        return verdict

    async def _ask(self, path: Path) -> list[float]:
        if self._scorer is None:
            raise AtomThinkError("this search scores steps and the run has no scorer. Pass `prm=` or `scorer=`")
        if path.step is None:
            raise AtomThinkError("the search scores a root, which has no step. Score its children")
        try:
            with no_exit("the scorer"):
                if isinstance(self._scorer, ChainScorer):
                    scores = list(await self._scorer.score_chain(path))
                    return self._recorded(path.lineage, scores)
                return self._recorded([path], [await self._scorer.score(path)])
        except BudgetSpentError as error:
            self._nodes.explain(path.key, f"not scored: {error}")
        except QuestionError as error:
            if isinstance(error, ServerError) or path.depth <= self._given + 1:
                raise
            # One candidate that the scorer cannot read must not fail the question. The journal records the reason.
            self._unreadable[path.key] = error
            self._known[path.key] = 0.0
            self._nodes.reject(path.key, f"cannot be scored: {error}")
        return [0.0]

    def _recorded(self, nodes: Iterable[Path], scores: list[Score]) -> list[float]:
        """Records the scores of nodes. A node of several chains keeps its lowest score."""
        found = list(nodes)
        if len(found) != len(scores):
            raise AtomThinkError(
                f"the scorer returned {len(scores)} scores for {len(found)} steps. Return one for each"
            )
        for node, score in zip(found, scores, strict=True):
            # The critic counts its own replies, also those before a failure.
            self._usage += score.usage if self._critic is None else Usage(score_calls=score.usage.score_calls)
            if not 0.0 <= score.value <= 1.0:
                raise AtomThinkError(f"the scorer returned {score.value!r} for a step. Scores must be in [0, 1]")
            if score.value <= self._known.get(node.key, 1.0):
                self._known[node.key] = score.value
                self._nodes.score(node.key, score.value, score.reason)
        return [score.value for score in scores]
