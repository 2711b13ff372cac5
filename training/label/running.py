"""`atomthink label`: from a file of chains or questions to a file of labelled chains."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from atomthink_plugin.answers import equivalent
from atomthink_plugin.api import AtomThinkError, Format
from atomthink_plugin.named_models import rollout_plan
from atomthink_plugin.plugins.arguments import read_pairs
from atomthink_plugin.runtime.build import build, open_journal
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.tables import Grid, print_grid
from atomthink_plugin.training.label.labelling import WAYS, label
from atomthink_plugin.training.label.rollouts import Spent
from atomthink_plugin.training.label.sampling import Sampled, read_questions, sample
from atomthink_plugin.training.records import (
    AnsweredQuestion,
    Chain,
    RecordFile,
    read_records,
    relocated,
    sibling_file,
    write_records,
    write_rejects,
)


@dataclass(frozen=True, slots=True)
class Order:
    """What a user wants labelled, and how.

    Attributes:
        input: Chains, or questions where `sample` is given.
        out: The labelled chains.
        way: A name in `WAYS`.
        rollouts: From a prefix, at most.
        soft: Whether labels are shares of right rollouts instead of 1 where there is any.
        sample: Chains that are sampled first, of each question; None to label those of the input.
        temperature: Of these chains, None for that of the rollouts.
    """

    input: Path
    out: Path
    way: str
    rollouts: int
    soft: bool = False
    sample: int | None = None
    temperature: float | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts and costs of a run.

    Attributes:
        way: How it was labelled.
        rollouts_per_prefix: At most.
        records: Lines of the input: chains, or questions that were sampled.
        records_rejected: Those that could not be used.
        samples: Chains that were asked for, of the other questions.
        samples_rejected: Those that could not be drawn.
        chains: What was to be labelled: the other samples, or records.
        chains_rejected: What could not be labelled.
        labelled: What was.
        answers: How many of these state the right answer, a wrong one, or none.
        errors: How many of these have a step that is labelled wrong.
        steps: How many of their steps are right (labelled above 0), wrong (0), and not labelled.
        sampling: What the samples cost.
        rolling: What the rollouts cost.
        seconds: Wall-clock time of this run, without loading the model.
    """

    way: str
    rollouts_per_prefix: int
    records: int
    records_rejected: int
    samples: int
    samples_rejected: int
    chains: int
    chains_rejected: int
    labelled: int
    answers: Mapping[str, int]
    errors: int
    steps: Mapping[str, int]
    sampling: Spent
    rolling: Spent
    seconds: float


def execute(order: Order, model: str, model_args: str) -> None:
    """Does what was ordered with a model, writes the files and prints the summary.

    Raises:
        AtomThinkError: The input, the model or one of its arguments cannot be used, or no chain could be labelled.
    """
    if order.out.is_dir() or order.out.resolve() == order.input.resolve():
        raise AtomThinkError(f"`--out {order.out}`: has to be a file, and not the input")
    source = read_questions(order.input) if order.sample else read_records(order.input, Chain)
    plan = rollout_plan(model, read_pairs("--model-args", model_args))
    runner = build(plan)
    journal = open_journal(plan, runner, "label")
    try:
        summary = fulfil(order, source, replace(runner, journal=journal))
    finally:
        if journal is not None:
            journal.close()
    print_grid(table(summary))
    if not summary.labelled:
        raise AtomThinkError(
            f"no chain could be labelled; the reasons are in {sibling_file(order.out, 'rejects.jsonl')}"
        )


def fulfil(order: Order, source: RecordFile[AnsweredQuestion] | RecordFile[Chain], runner: Runner) -> Summary:
    """Samples chains where that is wanted, labels them, and writes the files.

    Args:
        order: What is wanted.
        source: The input.
        runner: The policy, its settings and the journal; its search follows one path.
    """
    started = time.monotonic()
    given = [record for record in source.records if isinstance(record, Chain)]
    sampled = Sampled(given, (), Spent())
    if order.sample:
        questions = [record for record in source.records if isinstance(record, AnsweredQuestion)]
        sampled = sample(RecordFile(source.folder, questions), runner, order.sample, order.temperature)
    labelled = label(RecordFile(source.folder, sampled.chains), runner, WAYS[order.way], order.rollouts)
    chains = labelled.chains if order.soft else [hard(chain) for chain in labelled.chains]
    summary = Summary(
        way=order.way,
        rollouts_per_prefix=order.rollouts,
        records=source.read,
        records_rejected=len(source.rejects),
        samples=len(sampled.rejects) + len(sampled.chains) if order.sample else 0,
        samples_rejected=len(sampled.rejects),
        chains=len(sampled.chains),
        chains_rejected=len(labelled.rejects),
        labelled=len(chains),
        answers=dict(Counter(_conclusion(chain, runner.format) for chain in chains)),
        errors=sum(chain.first_error() is not None for chain in map(hard, chains)),
        steps=dict(Counter(_verdict(label) for chain in chains for label in chain.labels or ())),
        sampling=sampled.spent,
        rolling=labelled.spent,
        seconds=time.monotonic() - started,
    )
    write_records(order.out, (relocated(chain, source.folder, order.out) for chain in chains))
    write_rejects(sibling_file(order.out, "rejects.jsonl"), [*source.rejects, *sampled.rejects, *labelled.rejects])
    write_records(sibling_file(order.out, "summary.json"), [asdict(summary)])
    return summary


def hard(chain: Chain) -> Chain:
    """Returns a chain whose steps are right (1) if any rollout from behind them was, else wrong (0)."""
    assert chain.labels is not None
    return chain.model_copy(update={"labels": tuple(None if x is None else float(x > 0) for x in chain.labels)})


def table(summary: Summary) -> Grid:
    """Returns a summary as it is printed."""
    samples = [("chains sampled", f"{summary.samples}", f"{summary.samples_rejected} rejected")]
    rolling = summary.rolling
    rows = [
        ("records", f"{summary.records}", f"{summary.records_rejected} rejected"),
        *(samples if summary.samples else []),
        ("chains", f"{summary.chains}", f"{summary.chains_rejected} rejected"),
        ("labelled", f"{summary.labelled}", ""),
        *((f"  with {name} answer", f"{count}", "") for name, count in summary.answers.items()),
        ("their steps", f"{sum(summary.steps.values())}", ""),
        *((f"  {name}", f"{count}", "") for name, count in summary.steps.items()),
        ("rollouts", f"{rolling.samples}", f"{rolling.resumed} from the journal"),
        ("tokens", f"{rolling.usage.generated}", f"{summary.sampling.usage.generated} more for the chains"),
        ("seconds", f"{summary.seconds:.0f}", ""),
    ]
    title = f"{summary.way}, {summary.rollouts_per_prefix} rollouts"
    return Grid(title, ("", "count", "details"), rows, left=frozenset({2}))


def _conclusion(chain: Chain, form: Format) -> str:
    stated = form.answer(chain.steps[-1])
    return "no" if stated is None else "the right" if equivalent(stated, chain.answer) else "a wrong"


def _verdict(label: float | None) -> str:
    return "unknown" if label is None else "right" if label > 0 else "wrong"
