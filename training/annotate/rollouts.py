"""`atomthink annotate --model ...`: a local policy's own chains, kept where they are right (rejection sampling)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from atomthink_plugin.api import AtomThinkError, Choice, Failure, Outcome, Search, SearchTree
from atomthink_plugin.runtime.journal import Journal
from atomthink_plugin.runtime.progress import RunProgress
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.training.annotate.filters import FaultError, require_format
from atomthink_plugin.training.annotate.outputs import Lost, Made
from atomthink_plugin.training.annotate.questions import Item, Items
from atomthink_plugin.training.records import Chain, RecordFile
from atomthink_plugin.version import __version__

WAY: Final = "rollouts"

ROLLOUTS: Final = ("kept", "again", "answer", "format", "steps")
"""What a rollout comes to: a chain, one that was there before, or the stage it did not pass."""


def roll_out(found: Items, folder: Path, runner: Runner, model: str, samples: int) -> tuple[Made, Mapping[str, int]]:
    """Returns the distinct right chains of several rollouts per question, and what all rollouts came to.

    Finished questions are kept in the folder's journal.

    Args:
        found: The questions and what is none.
        folder: What their images are relative to; the journal goes there too.
        runner: The policy and its settings; its search is not used.
        model: What the chains say they are from.
        samples: Rollouts per question.

    Raises:
        AtomThinkError: The journal cannot be written.
    """
    settings = {
        "version": __version__,
        "policy": runner.policy.identity,
        "format": repr(runner.format),
        "settings": asdict(runner.settings),
        "samples": samples,
    }
    try:
        with (
            closing(Journal(folder / "journal", WAY, settings)) as journal,
            RunProgress(len(found.items), f"{samples} rollouts") as progress,
        ):
            rolling = replace(runner, search=_collecting(samples), journal=journal, trees=True)
            results = rolling.run(RecordFile(folder, found.items), progress.finished)
    except OSError as error:
        raise AtomThinkError(f"`--out {folder}` cannot be written: {error.strerror}") from error
    lost = [Lost(one.where, "input", "unusable record", one.reason, one.record) for one in found.unusable]
    chains: list[Chain] = []
    counts = Counter(dict.fromkeys(ROLLOUTS, 0))
    good = 0
    for item, result in zip(found.items, results, strict=True):
        if isinstance(result, Failure):
            lost.append(Lost(item.id, "teacher", "refuses the request", result.reason, item.model_dump()))
            continue
        kept, outcomes = sift(item, result, samples)
        counts += outcomes
        chains += kept
        good += bool(kept)
        if not kept:
            lost.append(_none_right(item, outcomes))
    source_of = {item.id: item.source for item in found.items}
    about = {
        chain.id: {"way": WAY, "teacher": model, "source": source_of[chain.id.rpartition("/")[0]]} for chain in chains
    }
    return Made(len(found.items) + len(found.unusable), good, chains, about, lost), counts


def sift(item: Item, outcome: Outcome, samples: int) -> tuple[list[Chain], Counter[str]]:
    """Returns a question's distinct right chains, and what each of its rollouts came to."""
    steps_to = outcome.chains()
    counts = Counter[str]()
    chains: list[Chain] = []
    for node in outcome.nodes:
        if node.answer is None or node.id not in steps_to:
            continue
        steps = steps_to[node.id]
        try:
            right = item.right(require_format(steps))
        except FaultError:
            counts["format"] += node.multiplicity
            continue
        if not right:
            counts["answer"] += node.multiplicity
            continue
        counts["kept"] += 1
        counts["again"] += node.multiplicity - 1
        chains.append(
            Chain(
                id=f"{item.id}/{len(chains) + 1}",
                question=item.question,
                images=item.images,
                steps=steps,
                answer=item.answer,
            )
        )
    counts["steps"] = samples - counts.total()
    return chains, counts


def _none_right(item: Item, outcomes: Mapping[str, int]) -> Lost:
    """The stage that the rollouts came furthest to."""
    record: dict[str, Any] = item.model_dump()
    if outcomes["answer"]:
        return Lost(item.id, "answer", "another answer", f"in {outcomes['answer']} rollouts", record)
    if outcomes["format"]:
        return Lost(item.id, "format", "no rollout has the form", f"{outcomes['format']} concluded", record)
    return Lost(item.id, "steps", "no rollout concludes", record=record)


def _collecting(samples: int) -> Search:
    async def search(tree: SearchTree) -> Choice:
        paths = await tree.rollouts(samples)
        return Choice(paths[0], 0.0, tree.why(paths[0]))

    return search
