"""The scores of labelled chains."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from atomthink_plugin.api import AtomThinkError, Scorer
from atomthink_plugin.runtime.solution_scores import ScoreFile, score_solutions
from atomthink_plugin.step_metrics.judged_steps import JudgedSteps, Threshold
from atomthink_plugin.training.evaluate.readers import LabelledChain

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ScoredChain:
    """A labelled chain and the score of each of its steps, from 0 to 1."""

    item: LabelledChain
    scores: tuple[float, ...]

    def judged(self, threshold: Threshold) -> JudgedSteps:
        """Returns the verdicts of the scores."""
        return JudgedSteps.from_scores(self.item.truth, self.scores, threshold)


@dataclass(frozen=True, slots=True)
class ScoredSet:
    """The chains that were scored, in order, and the reason for each chain that could not be scored, by id."""

    chains: tuple[ScoredChain, ...]
    failed: Mapping[str, str]

    def judged(self, items: Sequence[LabelledChain], threshold: Threshold) -> list[JudgedSteps]:
        """Returns the verdicts on all chains in order. One that could not be scored has none, as an invalid reply."""
        known = {chain.item.id: chain.judged(threshold) for chain in self.chains}
        return [known.get(item.id) or JudgedSteps(item.truth, (None,) * len(item.chain.steps)) for item in items]


def score_chains(
    items: Sequence[LabelledChain], scorer: Scorer, file: ScoreFile | None = None, label: str = ""
) -> ScoredSet:
    """Scores every step as a search would. Chains whose scores are in the file are not scored again.

    `label` is what the progress display calls the chains.

    Raises:
        AtomThinkError: The scorer cannot be used, or none of the chains could be scored.
    """
    scores = score_solutions([item.given for item in items], scorer, file, label)
    pairs = list(zip(items, scores, strict=True))
    failed = {item.id: found for item, found in pairs if isinstance(found, str)}
    if failed:
        what = f"{len(failed)} of {len(items)} chains cannot be scored; the first: {next(iter(failed.values()))}"
        if len(failed) == len(items):
            raise AtomThinkError(what)
        log.error(what)
    return ScoredSet(tuple(ScoredChain(item, found) for item, found in pairs if not isinstance(found, str)), failed)
