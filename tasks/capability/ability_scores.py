"""The step scores of a run by the ability that each step needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from atomthink_plugin.tasks.capability.behaviours import cluster_steps, masked
from atomthink_plugin.tasks.capability.labellers import Labeller
from atomthink_plugin.tasks.capability.taxonomy import Taxonomy

UNNAMED: Final = "none of the taxonomy"


@dataclass(frozen=True, slots=True)
class AbilityScore:
    """The scores of the steps that need one ability.

    Attributes:
        ability: Its name, or `UNNAMED` for steps without an ability of the taxonomy.
        steps: Number of steps.
        mean: Mean of their scores.
        worst: Mean over answers of the lowest score among an answer's steps of this ability.
    """

    ability: str
    steps: int
    mean: float
    worst: float


def score_abilities(
    chains: Sequence[Sequence[tuple[str, float]]], labeller: Labeller, taxonomy: Taxonomy
) -> list[AbilityScore]:
    """Returns the scores of each ability that occurs, in the taxonomy's order.

    Args:
        chains: The steps of each answer, as text and score.
        labeller: Assigns abilities to steps.
        taxonomy: The abilities.
    """
    if not any(chains):
        return []
    behaviours, index_of = cluster_steps(text for chain in chains for text, _ in chain)
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
