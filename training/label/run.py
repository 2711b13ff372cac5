"""`atomthink label`: labels the steps of chains by rollouts."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from atomthink_plugin.answers import equivalent
from atomthink_plugin.api import AtomThinkError, Format, QuestionError
from atomthink_plugin.json_rows import Reject
from atomthink_plugin.named_models import rollout_plan
from atomthink_plugin.runtime.build import build, open_journal
from atomthink_plugin.runtime.event_loop import run
from atomthink_plugin.runtime.progress import RunProgress
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.tables import Grid, print_grid
from atomthink_plugin.training.label.estimators import METHODS, Method
from atomthink_plugin.training.label.rollouts import PrefixSampler, RolloutCost, RolloutResult, sample_chains
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
class LabelSummary:
    """Counts and costs of a run. The counts of a stage are `read = used + rejected`.

    Attributes:
        records: Records of the input: chains, or questions to sample.
        samples: Chains that were to be sampled.
        chains: Chains to label: the samples, or the records.
        answers: How many of the labelled chains state the right answer, a wrong one, or none.
        errors: How many of them have a step that is labelled wrong.
        steps: How many of their steps are right (label above 0), wrong (0), or not labelled.
        seconds: Wall-clock time of this run, without loading the model.
    """

    method: str
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
    sampling: RolloutCost
    rolling: RolloutCost
    seconds: float


def label_file(
    source: Path,
    out: Path,
    model: str,
    model_args: Mapping[str, Any],
    *,
    method: str = "omega",
    rollouts: int = 8,
    soft: bool = False,
    sample: int | None = None,
    temperature: float | None = None,
) -> None:
    """Labels the chains of a file, writes chains, rejects and summary, and prints the summary.

    The arguments are those of `atomthink label`.

    Raises:
        AtomThinkError: The input, the model or one of its arguments cannot be used, or no chain can be labelled.
    """
    if out.is_dir() or out.resolve() == source.resolve():
        raise AtomThinkError(f"`--out {out}` has to be a file, and not the input")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AtomThinkError(f"`--out {out}` cannot be written: {error.strerror}") from None
    found = _read(source, sampled=bool(sample))
    plan = rollout_plan(model, model_args)
    runner = build(plan)
    journal = open_journal(plan, runner, "label")
    runner = replace(runner, journal=journal)
    started = time.monotonic()
    with closing(journal) if journal is not None else nullcontext():
        sampled = RolloutResult(found.records, (), RolloutCost())
        if sample:
            sampled = sample_chains(found, runner, sample, temperature)
        labelled = label_chains(RecordFile(found.folder, sampled.chains), runner, METHODS[method], rollouts)
    chains = labelled.chains if soft else [chain.with_hard_labels() for chain in labelled.chains]
    write_records(out, (relocated(chain, found.folder, out) for chain in chains))
    rejects = sibling_file(out, "rejects.jsonl")
    write_rejects(rejects, [*found.rejects, *sampled.rejects, *labelled.rejects])
    summary = LabelSummary(
        method=method,
        rollouts_per_prefix=rollouts,
        records=found.read,
        records_rejected=len(found.rejects),
        samples=len(sampled.rejects) + len(sampled.chains) if sample else 0,
        samples_rejected=len(sampled.rejects),
        chains=len(sampled.chains),
        chains_rejected=len(labelled.rejects),
        labelled=len(chains),
        answers=dict(Counter(_conclusion(chain, runner.format) for chain in chains)),
        errors=sum(chain.with_hard_labels().first_error() is not None for chain in chains),
        steps=dict(Counter(_verdict(label) for chain in chains for label in chain.labels or ())),
        sampling=sampled.cost,
        rolling=labelled.cost,
        seconds=time.monotonic() - started,
    )
    write_records(sibling_file(out, "summary.json"), [asdict(summary)])
    print_grid(table(summary))
    if not chains:
        raise AtomThinkError(f"no chain could be labelled: {rejects} has the reasons")
    print(f"{len(chains)} labelled chains: {out}\nnext: atomthink train prm RECIPE.yaml --data {out}")


def _read(source: Path, sampled: bool) -> RecordFile[Any]:
    if sampled:
        return read_records(source, AnsweredQuestion, required=("answer",), check_images=False)
    try:
        return read_records(source, Chain)
    except AtomThinkError as error:
        raise AtomThinkError(f"{error}. Questions without steps need `--sample N`") from None


def label_chains(source: RecordFile[Chain], runner: Runner, method: Method, n: int) -> RolloutResult:
    """Labels chains by rollouts.

    The search of the runner follows one path. `n` is the most rollouts from a prefix.

    Raises:
        QuestionError: A rollout failed and `runner.on_error` is "raise".
    """
    return run(_label_all(source, runner, method, n))


async def _label_all(source: RecordFile[Chain], runner: Runner, method: Method, n: int) -> RolloutResult:
    """Labels all questions concurrently, and the chains of one question together, which share rollouts."""
    groups: dict[str, list[Chain]] = {}
    for chain in source.records:
        groups.setdefault(_question_key(chain), []).append(chain)
    slots = asyncio.Semaphore(runner.concurrency)
    done: dict[str, Chain | Reject] = {}
    cost = RolloutCost()

    async def work(queue: Iterator[tuple[str, list[Chain]]], progress: RunProgress) -> None:
        nonlocal cost
        for key, chains in queue:
            question = replace(source.question(chains[0]), id=key)
            sampler = PrefixSampler(question, runner, slots)
            results = await asyncio.gather(*(_label_chain(chain, sampler, runner, method, n) for chain in chains))
            await sampler.finish()
            done.update(zip((chain.id for chain in chains), results, strict=True))
            cost += sampler.cost
            resumed = sampler.cost.resumed > 0
            failed = any(isinstance(result, Reject) for result in results)
            progress.advance(amount=0 if resumed else sampler.cost.usage.generated, resumed=resumed, failed=failed)

    with RunProgress(len(groups), "labels") as progress:
        queue = iter(groups.items())
        await asyncio.gather(*(work(queue, progress) for _ in range(min(runner.concurrency, len(groups)))))
    results = [done[chain.id] for chain in source.records]
    return RolloutResult(
        [result for result in results if isinstance(result, Chain)],
        [result for result in results if isinstance(result, Reject)],
        cost,
    )


async def _label_chain(chain: Chain, sampler: PrefixSampler, runner: Runner, method: Method, n: int) -> Chain | Reject:
    if not chain.answer:
        return _reject(chain, "answer: it is not known, and rollouts are compared with it")
    if chain.labels is not None:
        return _reject(chain, "labels: the chain has labels already; remove them to label it again")
    stated = runner.format.answer(chain.steps[-1])
    try:
        is_right = None if stated is None else await asyncio.to_thread(equivalent, stated, chain.answer)
        labels = await method(len(chain.steps), is_right, partial(sampler.count_right, chain), n)
    except QuestionError as error:
        if runner.on_error == "raise":
            raise
        return _reject(chain, str(error))
    return chain.model_copy(update={"labels": labels})


def _reject(chain: Chain, reason: str) -> Reject:
    return Reject(f"id {chain.id!r}", reason, chain.model_dump(exclude_none=True))


def _question_key(chain: Chain) -> str:
    """Returns a digest that all chains of a question share. The seeds of its samples depend on it."""
    digest = hashlib.blake2b(digest_size=8)
    for part in (chain.question, *chain.images):
        digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def table(summary: LabelSummary) -> Grid:
    """Returns a summary as it is printed."""
    samples = [("chains sampled", f"{summary.samples}", f"{summary.samples_rejected} rejected")]
    rolling = summary.rolling
    rows = [
        ("records", f"{summary.records}", f"{summary.records_rejected} rejected"),
        *(samples if summary.samples else []),
        ("chains", f"{summary.chains}", f"{summary.chains_rejected} rejected"),
        ("labelled", f"{summary.labelled}", ""),
        *((f"  with {name} answer", f"{count}", "") for name, count in sorted(summary.answers.items())),
        ("their steps", f"{sum(summary.steps.values())}", ""),
        *((f"  {name}", f"{count}", "") for name, count in sorted(summary.steps.items())),
        ("rollouts", f"{rolling.samples}", f"{rolling.resumed} from the journal"),
        ("tokens", f"{rolling.usage.generated}", f"{summary.sampling.usage.generated} more for the chains"),
        ("seconds", f"{summary.seconds:.0f}", ""),
    ]
    title = f"{summary.method}, {summary.rollouts_per_prefix} rollouts"
    return Grid(title, ("", "count", "details"), rows, left=frozenset({2}))


def _conclusion(chain: Chain, form: Format) -> str:
    stated = form.answer(chain.steps[-1])
    return "no" if stated is None else "the right" if equivalent(stated, chain.answer) else "a wrong"


def _verdict(label: float | None) -> str:
    return "unknown" if label is None else "right" if label > 0 else "wrong"
