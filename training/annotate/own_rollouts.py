"""Rejection sampling: rollouts of a local model, kept where their answers are right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from typing import Any, Final

from atomthink_plugin.api import Failure, Format, Outcome, Path, Question, Step
from atomthink_plugin.formats.steps import ATOMIC_STEP
from atomthink_plugin.runtime.journal import Journal
from atomthink_plugin.runtime.progress import RunProgress
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.training.annotate.filters import AttemptError, require_format
from atomthink_plugin.training.annotate.results import Annotation
from atomthink_plugin.training.label.rollouts import rollout_search
from atomthink_plugin.training.records import AnsweredQuestion, Chain, RecordFile
from atomthink_plugin.version import __version__

METHOD: Final = "rollouts"

ROLLOUTS: Final = ("kept", "again", "answer", "format", "steps")
"""What becomes of a rollout: a new chain, a chain that was found before, or the stage that it did not pass."""


def annotate_by_rollouts(
    source: RecordFile[AnsweredQuestion], runner: Runner, model: str, samples: int
) -> tuple[Annotation, Mapping[str, int]]:
    """Returns the distinct right chains of several rollouts per question, and the counts of all rollouts.

    The journal of finished questions is in the folder of the source. The search of the runner is not used.

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
    where = f"`--out {source.folder}`"
    with (
        closing(Journal(source.folder / "journal", METHOD, settings, argument=where)) as journal,
        RunProgress(len(source), "1 rollout" if samples == 1 else f"{samples} rollouts") as progress,
    ):
        sampler = replace(runner, search=rollout_search(samples), journal=journal, trees=True)
        results = sampler.run(source, progress.finished)
    unusable = ((one, AttemptError("input", "unusable record", one.reason)) for one in source.rejects)
    rejects = [fault.reject(one.where, one.record) for one, fault in unusable]
    chains: list[dict[str, Any]] = []
    counts = Counter(dict.fromkeys(ROLLOUTS, 0))
    good = 0
    for record, result in zip(source.records, results, strict=True):
        if isinstance(result, Failure):
            fault = AttemptError("teacher", "refuses the request", result.reason)
            rejects.append(fault.reject(record.id, record.model_dump()))
            continue
        kept, outcomes = right_chains(record, result, samples, runner.format)
        counts.update(outcomes)  # `+=` would drop counts of 0
        fields = {"method": METHOD, "teacher": model, "source": record.source}
        chains += ({**chain.model_dump(exclude_none=True), **fields} for chain in kept)
        good += bool(kept)
        if not kept:
            # The rejects count for the stage that the best rollouts did not pass.
            if outcomes["answer"]:
                fault = AttemptError("answer", "wrong final answer", f"in {outcomes['answer']} rollouts")
            elif outcomes["format"]:
                fault = AttemptError("format", "no rollout is well formed", f"{outcomes['format']} concluded")
            else:
                fault = AttemptError("steps", "no rollout concludes")
            rejects.append(fault.reject(record.id, record.model_dump()))
    return Annotation(source.read, good, chains, rejects), counts


def right_chains(
    record: AnsweredQuestion, outcome: Outcome, samples: int, format: Format
) -> tuple[list[Chain], Counter[str]]:
    """Returns the distinct right chains of a question, and the counts of its rollouts."""
    steps_of = outcome.chains()
    counts = Counter[str]()
    chains: list[Chain] = []
    for node in outcome.nodes:
        if node.answer is None or node.id not in steps_of:
            continue
        steps = steps_of[node.id]
        try:
            # Chains of atomic steps have a form to check; of other units, the format itself accepts whole ones only.
            right = record.is_right(require_format(steps) if node.unit == ATOMIC_STEP.name else node.answer)
        except AttemptError:
            counts["format"] += node.multiplicity
            continue
        if not right:
            counts["answer"] += node.multiplicity
            continue
        counts["kept"] += 1
        counts["again"] += node.multiplicity - 1
        fields = record.model_dump(include={"question", "images", "answer"})
        chains.append(Chain(**fields, id=f"{record.id}/{len(chains) + 1}", steps=_in_units(steps, format)))
    counts["steps"] = samples - counts.total()
    return chains, counts


def _in_units(steps: Sequence[str], format: Format) -> tuple[str, ...]:
    """Returns the units of a chain; pieces that have no joint, such as mini-steps, are one reply together."""
    path = Path(Question("", ()))
    joints: list[str] = []
    for text in steps:
        unit = format.unit(path)
        joints.append(unit.joint if unit is not None else "")
        path = path.extend(Step(text))
    return tuple(steps) if all(joints) else ("".join(steps),)
