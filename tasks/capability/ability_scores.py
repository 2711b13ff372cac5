"""The scores of a run's own steps, by the ability that each step takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from atomthink_plugin.tasks.capability.behaviours import collect, masked
from atomthink_plugin.tasks.capability.labellers import Labeller
from atomthink_plugin.tasks.capability.taxonomy import Taxonomy

UNNAMED: Final = "none of the taxonomy"


@dataclass(frozen=True, slots=True)
class AbilityScore:
    """How a scorer rates the steps of one ability.

    Attributes:
        ability: Its name, or `UNNAMED` for steps that the labeller cannot place.
        steps: How many.
        mean: Mean of their scores.
        worst: Mean over answers of the lowest score that such a step has in them.
    """

    ability: str
    steps: int
    mean: float
    worst: float


def by_ability(
    chains: Sequence[Sequence[tuple[str, float]]], labeller: Labeller, taxonomy: Taxonomy
) -> list[AbilityScore]:
    """Returns the scores by ability, in the taxonomy's order, those without any steps left out.

    Args:
        chains: Each answer's steps, text and score.
        labeller: Says what ability a step takes.
        taxonomy: The abilities.
    """
    if not any(chains):
        return []
    behaviours, index_of = collect(text for chain in chains for text, _ in chain)
    labels = labeller.label(behaviours, taxonomy)
    scores: dict[str, list[list[float]]] = {}
    for chain in chains:
        of_chain: dict[str, list[float]] = {}
        for text, score in chain:
            of_chain.setdefault(labels[index_of[masked(text)]].ability or UNNAMED, []).append(score)
        for ability, own in of_chain.items():
            scores.setdefault(ability, []).append(own)
    order = [*(ability.name for ability in taxonomy.abilities), UNNAMED]
    return [_score(ability, scores[ability]) for ability in order if ability in scores]


def _score(ability: str, chains: Sequence[Sequence[float]]) -> AbilityScore:
    scores = [score for chain in chains for score in chain]
    return AbilityScore(ability, len(scores), sum(scores) / len(scores), sum(map(min, chains)) / len(chains))
