"""`atomthink atoms build`: from reference chains to records of atomic steps."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

from rich.console import Console
from rich.progress import track

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.report.output_files import seen_from
from atomthink_plugin.tables import Grid, print_grid
from atomthink_plugin.tasks.capability.behaviours import Behaviour, cluster_steps, masked
from atomthink_plugin.tasks.capability.labellers import AbilityLabel, Labeller
from atomthink_plugin.tasks.capability.records import Chain, StepRecord, write_lines
from atomthink_plugin.tasks.capability.taxonomy import Taxonomy
from atomthink_plugin.tasks.demo.figures import draw
from atomthink_plugin.tasks.demo.questions import DemoQuestion

log = logging.getLogger(__name__)

T = TypeVar("T")

IMAGES: Final = "images"


def demo_chains(demo: Sequence[DemoQuestion], folder: Path) -> list[Chain]:
    """Returns the demo task's gold chains, their figures drawn into `images/` of a folder."""
    try:
        (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AtomThinkError(f"{folder / IMAGES} cannot be made: {error.strerror}") from None
    chains = []
    for index, question in enumerate(shown(demo, "figures")):
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


def records(
    chains: Sequence[Chain], labeller: Labeller, taxonomy: Taxonomy
) -> tuple[list[StepRecord], list[Behaviour], list[AbilityLabel]]:
    """Returns the records of all steps whose behaviour has an ability, with the behaviours and their labels.

    StepRecord n of a chain ends with its n-th step, the last one included: it states the answer, so that nothing is
    left to do behind it, and it is what the step before it is compared with.

    Raises:
        AtomThinkError: No step has an ability, or the labeller cannot do its work.
    """
    behaviours, index_of = cluster_steps(step for chain in chains for step in chain.steps)
    labels = labeller.label(behaviours, taxonomy)
    made = list(_records(chains, [labels[index_of[masked(step)]] for chain in chains for step in chain.steps]))
    if not made:
        raise AtomThinkError("no step of these chains has an ability of the taxonomy: name another with `--taxonomy`")
    return made, behaviours, labels


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


def build(chains: Sequence[Chain], source: Path, out: Path, labeller: Labeller, taxonomy: Taxonomy) -> None:
    """Builds a set, writes it and prints what it holds.

    Args:
        chains: Reference chains.
        source: The folder their images are relative to.
        out: The JSONL file that is written; its images are relative to its own folder.
        labeller: Names the behaviours.
        taxonomy: What they are mapped to.
    """
    moved = [chain.model_copy(update={"images": seen_from(out, source, chain.images)}) for chain in chains]
    made, behaviours, labels = records(moved, labeller, taxonomy)
    write_lines(out, made)
    print_grid(table(behaviours, labels))
    left_out = sum(len(chain.steps) for chain in chains) - len(made)
    if left_out:
        log.warning("%d steps have no ability of the taxonomy and no record", left_out)
    folders = sorted({str(out.parent / Path(image).parent) for chain in moved for image in chain.images})
    images = f", their images in {', '.join(folders)}" if folders else ""
    log.info("%d records of %d chains in %s%s", len(made), len(chains), out, images)


def table(behaviours: Sequence[Behaviour], labels: Sequence[AbilityLabel]) -> Grid:
    """Returns the commonest behaviours as they are printed."""
    shown_rows = 30
    cells = [
        (label.name, label.ability or "none", str(behaviour.size), behaviour.examples[0])
        for behaviour, label in list(zip(behaviours, labels, strict=True))[:shown_rows]
    ]
    totals = Counter[str]()
    for behaviour, label in zip(behaviours, labels, strict=True):
        totals[label.ability or "none"] += behaviour.size
    return Grid(
        title=f"{len(behaviours)} behaviours" + (", the commonest" if len(behaviours) > shown_rows else ""),
        headings=("behaviour", "ability", "steps", "example"),
        cells=cells,
        left=frozenset({1, 3}),
        elastic=frozenset({0, 3}),
        caption=", ".join(f"{ability} {count}" for ability, count in totals.most_common()),
    )


def shown(items: Sequence[T], label: str) -> Iterable[T]:
    """Returns the items under a progress bar."""
    return track(items, label, console=Console(stderr=True), transient=True)
