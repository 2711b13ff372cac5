"""LLaVA-CoT's stage-wise retracing search, in which a reward model can send the search back to new captions.

Source: LLaVA-CoT (arXiv 2411.10440, the ICCV version), Algorithm 1, with its settings: 4 candidates of which 2 are
kept, at most 3 retraces, temperature 0.6.

The published rule compares an unbounded reward with `mean + Z * std`, where Z = 0.2533 is the 60 % quantile of the
normal distribution. Scorers of this package give values in [0, 1]. For one that returns Phi((reward - mean) / std) the
rule is `score > Phi(0.2533) = 0.6`, the default threshold. The published mean and standard deviation were measured on
MMStar. Other scorers need another threshold: look at the scores that yours gives.

Different from the published code: it has up to 4 retraces and concludes 3 reasonings; Algorithm 1, as here, has 3 and
concludes those it keeps. The scorer reads each stage after the earlier ones, with their tags. Equal samples are one
candidate but count as often as they were drawn in the decision on a retrace. A caption drawn again has new reasonings.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Le

from atomthink_plugin.api import AtomThinkError, Choice, Count, Format, Path, Question, Search, SearchTree
from atomthink_plugin.formats.stages import STAGES
from atomthink_plugin.searches.parts.choosing import Ranked, rank


def swires(
    candidates: Count = 4,
    keep: Count = 2,
    retraces: Annotated[int, Ge(0)] = 3,
    threshold: Annotated[float, Ge(0), Le(1)] = 0.6,
) -> Search:
    """Keeps the best captions and reasonings by a reward model, and draws new captions while the reasonings score low.

    The summary is sampled once. The `keep` best of `candidates` captions continue, with `candidates / keep` reasonings
    each. If the second-best reasoning of all rounds is not above `threshold`, new captions are drawn. In the end each
    of the `keep` best reasonings gets one conclusion, and the best conclusion is the answer. If a stage has no valid
    sample or the budget is spent, the best chain so far is returned. A question that gives a caption as a step is
    answered by one chain, without a choice. The search needs `format=stages`.

    Args:
        candidates: Captions of one round, and reasonings of one round. A multiple of `keep`.
        keep: Captions that continue, and reasonings that are concluded.
        retraces: Maximum number of times that new captions are drawn.
        threshold: Score that the second-best reasoning has to exceed to end the retracing. 1 always retraces.
    """
    if candidates % keep:
        raise AtomThinkError(f"`candidates={candidates}` is not a multiple of `keep={keep}`")

    async def search(tree: SearchTree) -> Choice:
        check_stages(tree.format)
        summary = tree.root
        if summary.depth > 1:
            (path,) = await tree.rollouts(1)
            return Choice(path, 0.0, tree.why(path))
        if summary.step is None:
            (summaries,) = await tree.expand([summary], 1)
            if not summaries:
                return Choice(summary, 0.0, tree.why(summary))
            summary = summaries[0]
        pool, best = _Pool(), [(0.0, summary)]
        for count in range(retraces + 1):
            (captions,) = await tree.expand([summary], candidates, first=count * candidates)
            kept = await _best(tree, captions, keep, f"round {count + 1}, rank")
            best = kept or best
            await pool.draw(tree, [path for _, path in kept], candidates // keep)
            if pool.second_best > threshold:
                break
        best = await _best(tree, list(pool.paths.values()), keep, "pool rank") or best
        families = await tree.expand([path for _, path in best], 1) if pool.paths else []
        value, path = (await _best(tree, [path for family in families for path in family], 1, "rank") or best)[0]
        return Choice(path, value, tree.why(path))

    return search


def check_stages(format: Format) -> None:
    """Raises AtomThinkError if the units of a format are not stages."""
    unit = format.unit(Path(Question("", ())))
    if unit is None or unit.name not in STAGES:
        raise AtomThinkError("`search=swires` retraces stages: leave out `format=`, or use `format=stages`")


@dataclass
class _Pool:
    """The reasonings of all rounds."""

    paths: dict[str, Path] = field(default_factory=dict)
    scores: list[float] = field(default_factory=list)
    drawn: Counter[str] = field(default_factory=Counter)

    async def draw(self, tree: SearchTree, captions: Sequence[Path], n: int) -> None:
        """Adds `n` samples after each caption, further ones after a caption that has some."""
        families = await tree.expand(captions, n, first=[self.drawn[caption.key] for caption in captions])
        self.drawn.update({caption.key: n for caption in captions})
        reasonings = [path for family in families for path in family]
        self.paths |= {path.key: path for path in reasonings}
        for path, value in zip(reasonings, await _scores(tree, reasonings), strict=True):
            self.scores += [value] * path.steps[-1].multiplicity

    @property
    def second_best(self) -> float:
        return sorted(self.scores)[-2] if len(self.scores) > 1 else 0.0


async def _best(tree: SearchTree, paths: Sequence[Path], keep: int, place: str) -> list[Ranked]:
    """Returns the `keep` best paths, best first. Ties go to the likelier path."""
    ranked = sorted(zip(await _scores(tree, paths), paths, strict=True), key=rank, reverse=True)
    for number, (_, path) in enumerate(ranked, start=1):
        tree.note(path, f"{place} {number} of {len(ranked)}, kept {'yes' if number <= keep else 'no'}")
    return ranked[:keep]


async def _scores(tree: SearchTree, paths: Sequence[Path]) -> list[float]:
    return await asyncio.gather(*(tree.score(path) for path in paths))
