"""Makes step records from reference chains: clusters the steps, and labels the clusters with abilities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.runtime.progress import track
from atomthink_plugin.tables import Grid
from atomthink_plugin.tasks.capability.behaviours import Behaviour, cluster_steps, masked
from atomthink_plugin.tasks.capability.labellers import AbilityLabel, Labeller
from atomthink_plugin.tasks.capability.records import StepRecord
from atomthink_plugin.tasks.capability.taxonomy import Taxonomy
from atomthink_plugin.tasks.demo.figures import draw
from atomthink_plugin.tasks.demo.questions import DemoQuestion
from atomthink_plugin.training.records import Chain

IMAGES: Final = "images"
SHOWN_BEHAVIOURS: Final = 30


def demo_chains(demo: Sequence[DemoQuestion], folder: Path) -> list[Chain]:
    """Returns the gold chains of demo questions, and draws their figures into `images/` of a folder."""
    try:
        (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AtomThinkError(f"the folder {folder / IMAGES} cannot be created: {error.strerror}") from None
    chains = []
    for index, question in enumerate(track(demo, "figures")):
        image = f"{IMAGES}/demo{index}.png"
        draw(question).save(folder / image)
        chains.append(
            Chain(
                id=f"demo{index}",
                question=question.text,
                images=(image,),
                steps=question.steps,
                answer=str(question.answer),
            )
        )
    return chains


def step_records(
    chains: Sequence[Chain], labeller: Labeller, taxonomy: Taxonomy
) -> tuple[list[StepRecord], list[Behaviour], list[AbilityLabel]]:
    """Returns a record for each step that has an ability, with all behaviours and their labels.

    Record n of a chain ends with its n-th step. The last step has a record as well: it states the answer, and the step
    before it is compared with it.

    Raises:
        AtomThinkError: No step has an ability, or the labeller fails.
    """
    behaviours, index_of = cluster_steps(step for chain in chains for step in chain.steps)
    labels = labeller.label(behaviours, taxonomy)
    records = list(_records(chains, [labels[index_of[masked(step)]] for chain in chains for step in chain.steps]))
    if not records:
        raise AtomThinkError(
            "no step of these chains has an ability of the taxonomy. Use another one with `--taxonomy`"
        )
    return records, behaviours, labels


def _records(chains: Sequence[Chain], labels: Iterable[AbilityLabel]) -> Iterator[StepRecord]:
    label_of = iter(labels)
    for chain in chains:
        for n, label in zip(range(1, len(chain.steps) + 1), label_of, strict=False):
            if label.ability is None:
                continue
            yield StepRecord(
                id=f"{chain.id}/{n}",
                chain=chain.id,
                question=chain.question,
                images=chain.images,
                answer=chain.answer,
                history=chain.steps[:n],
                ability=label.ability,
                behaviour=label.name,
            )


def behaviour_table(behaviours: Sequence[Behaviour], labels: Sequence[AbilityLabel]) -> Grid:
    """Returns the printed table of the most frequent behaviours."""
    cells = [
        (label.name, label.ability or "none", str(behaviour.size), behaviour.examples[0])
        for behaviour, label in list(zip(behaviours, labels, strict=True))[:SHOWN_BEHAVIOURS]
    ]
    totals = Counter[str]()
    for behaviour, label in zip(behaviours, labels, strict=True):
        totals[label.ability or "none"] += behaviour.size
    cut = f", the {SHOWN_BEHAVIOURS} most frequent" if len(behaviours) > SHOWN_BEHAVIOURS else ""
    return Grid(
        title=f"{len(behaviours)} behaviours{cut}",
        headings=("behaviour", "ability", "steps", "example"),
        cells=cells,
        left=frozenset({1, 3}),
        elastic=frozenset({0, 3}),
        caption=", ".join(f"{ability} {count}" for ability, count in totals.most_common()),
    )
