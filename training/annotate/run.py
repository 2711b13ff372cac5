"""The runs of `atomthink annotate`: from questions to chains, by a teacher or by a local model."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import ConfigDict

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.json_rows import Reject
from atomthink_plugin.named_models import rollout_plan
from atomthink_plugin.plugins.arguments import read_pairs
from atomthink_plugin.runtime.build import build
from atomthink_plugin.runtime.event_loop import run
from atomthink_plugin.training.annotate import own_rollouts, prompts
from atomthink_plugin.training.annotate.attempt import Attempt, AttemptSettings, QuestionPool
from atomthink_plugin.training.annotate.augment import augment
from atomthink_plugin.training.annotate.budget import LimitError, SpendingBudget, read_price
from atomthink_plugin.training.annotate.corrupt import corrupt_chain, labelled_pairs
from atomthink_plugin.training.annotate.dynamic import extend_stepwise
from atomthink_plugin.training.annotate.filters import AttemptError, RefusedAttemptError, require_format
from atomthink_plugin.training.annotate.ledger import Ledger
from atomthink_plugin.training.annotate.prompts import Images
from atomthink_plugin.training.annotate.results import Annotation
from atomthink_plugin.training.annotate.teacher import TeacherReply, connect
from atomthink_plugin.training.export import read_origins
from atomthink_plugin.training.images import store_image
from atomthink_plugin.training.records import AnsweredQuestion, Chain, RecordFile, read_images, read_records
from atomthink_plugin.training.sources import read_columns, read_questions

Method = Literal["dynamic", "augment", "corrupt"]

WriteChain = Callable[[Attempt, AnsweredQuestion, Images], Awaitable[list[str]]]
"""Asks for one chain of numbered steps. Raises AttemptError if there is none."""

_WRITERS: Final[Mapping[str, WriteChain]] = {"dynamic": extend_stepwise, "augment": augment}


class ChainCheck(TeacherReply):
    """What a check says of a chain."""

    # Part of each request: with another title, the replies in old ledgers would not be found.
    model_config = ConfigDict(title="Verdict")

    right: bool
    reason: str = ""


def annotate_with_teacher(
    source: str,
    out: Path,
    *,
    teacher_model: str,
    base_url: str | None = None,
    method: Method = "dynamic",
    split: str | None = None,
    columns: str = "",
    limit: int | None = None,
    checks: int = 2,
    tries: int = 2,
    max_steps: int | None = None,
    concurrency: int = 16,
    timeout: float = 300.0,
    max_retries: int = 5,
    wait: float = 600.0,
    prices: Path | None = None,
    max_tokens_total: int | None = None,
    max_usd: float | None = None,
) -> None:
    """Lets a teacher write chains, writes the results and prints the summary. Continues an earlier run in `out`.

    The arguments are those of `atomthink annotate`; without `max_steps`, the maximum is 25.

    Raises:
        AtomThinkError: An argument or a file cannot be used, or the server is lost.
        LimitError: A spending limit ended the run. The results so far are written.
    """
    if method == "corrupt" and (split or columns or max_steps):
        raise AtomThinkError("`--split`, `--columns` and `--max-steps` cannot be used with `--method corrupt`")
    price = read_price(prices, teacher_model) if prices else None
    SpendingBudget(price, max_tokens_total, max_usd)  # checks the limits before anything is written
    settings = AttemptSettings(tries=tries, max_steps=max_steps or 25, checks=checks)
    with closing(Ledger(out)) as ledger:
        budget = SpendingBudget(price, max_tokens_total, max_usd, ledger)
        teacher = connect(
            teacher_model,
            base_url,
            budget,
            connections=concurrency,
            timeout=timeout,
            max_retries=max_retries,
            wait=wait,
        )
        pool = QuestionPool(ledger, budget, teacher, method, settings, concurrency)
        if method == "corrupt":
            chains = read_records(Path(source), Chain, limit=limit)
            annotation = run(_corrupt(chains, read_origins(Path(source)), out, pool))
        else:
            questions = read_questions(source, out, split=split, columns=read_columns(columns), limit=limit)
            annotation = run(_write_chains(questions, pool))
    annotation.write(out, {"method": method, "teacher": teacher_model}, budget.spent)
    _check_end(out, annotation, pool)
    _print_next(out, annotation, "prm" if method == "corrupt" else "policy")


def annotate_with_model(
    source: str,
    out: Path,
    *,
    model: str,
    model_args: str = "",
    samples: int = 8,
    split: str | None = None,
    columns: str = "",
    limit: int | None = None,
) -> None:
    """Keeps the right rollouts of a local model, writes the results and prints the summary.

    The arguments are those of `atomthink annotate`.

    Raises:
        AtomThinkError: An argument or a file cannot be used.
    """
    questions = read_questions(source, out, split=split, columns=read_columns(columns), limit=limit)
    runner = build(rollout_plan(model, read_pairs("--model-args", model_args)))
    annotation, rollouts = own_rollouts.annotate_by_rollouts(questions, runner, model, samples)
    header = {"method": own_rollouts.METHOD, "teacher": model, "samples": samples, "rollouts": dict(rollouts)}
    annotation.write(out, header)
    _print_next(out, annotation, "policy")


async def _write_chains(source: RecordFile[AnsweredQuestion], pool: QuestionPool) -> Annotation:
    """Asks for a chain for each question."""
    rejects = [AttemptError("input", _kind(one), one.reason).reject(one.where, one.record) for one in source.rejects]
    records = source.records
    if pool.method == "augment":
        records = [record for record in records if record.solution]
        missing = AttemptError("input", "no reference solution")
        rejects += [missing.reject(record.id, record.model_dump()) for record in source.records if not record.solution]
    chains = []
    write = partial(_annotate_question, folder=source.folder, write_chain=_WRITERS[pool.method])
    for record, result in await pool.finish(records, write):
        if isinstance(result, AttemptError):
            rejects.append(result.reject(record.id, record.model_dump()))
        elif "steps" in result:
            chain = Chain(**record.model_dump(exclude={"solution", "options", "source"}), steps=result["steps"])
            about = {"method": pool.method, "teacher": pool.teacher.model, "source": record.source}
            chains.append({**chain.model_dump(exclude_none=True), **about})
        else:
            faults = result["faults"]
            rejects.append(AttemptError(**faults[-1]).reject(record.id, record.model_dump(), faults))
    return Annotation(source.read, len(chains), chains, rejects)


async def _annotate_question(
    record: AnsweredQuestion, attempts: Sequence[Attempt], folder: Path, write_chain: WriteChain
) -> Mapping[str, Any]:
    """Returns the result of a question for the ledger: its steps if there is a chain, and the faults of all attempts.

    Raises:
        NoReplyError: The server does not answer; another run may finish the question.
        LimitError: The budget is spent.
    """
    images = read_images(record, folder)
    faults: list[dict[str, str]] = []
    for attempt in attempts:
        try:
            steps = await write_chain(attempt, record, images)
            await _require_right(attempt, record, images, steps)
            return {"steps": steps, "faults": faults}
        except AttemptError as fault:
            faults.append(asdict(fault))
            if isinstance(fault, RefusedAttemptError):
                break
    return {"faults": faults}


async def _require_right(attempt: Attempt, record: AnsweredQuestion, images: Images, steps: Sequence[str]) -> None:
    answer = require_format(steps)
    if not await asyncio.to_thread(record.is_right, answer):  # comparing formulas may take seconds
        raise AttemptError("answer", "wrong final answer", f"{answer!r} instead of {record.answer!r}")
    for which in range(attempt.settings.checks):
        messages = prompts.chain_check(record, images, steps, which)
        reply = await attempt.ask(messages, ChainCheck, max_tokens=attempt.settings.step_tokens)
        if not reply.right:
            raise AttemptError("check", "the teacher's check says it is wrong", reply.reason)


async def _corrupt(
    source: RecordFile[Chain], origins: Mapping[str, tuple[str, str]], out: Path, pool: QuestionPool
) -> Annotation:
    """Asks for a wrong version of each step, and returns both versions as labelled chains."""
    unusable = ((one, AttemptError("input", "no chain", one.reason)) for one in source.rejects)
    rejects = [fault.reject(one.where, {"record": one.record}) for one, fault in unusable]
    right: list[Chain] = []
    for chain in source.records:
        error = None if chain.labels is None else chain.first_error()
        if error is None:
            right.append(chain)
        else:
            fault = AttemptError("input", "a step is labelled wrong", f"step {error + 1}")
            rejects.append(fault.reject(chain.id, chain.model_dump(exclude_none=True)))
    asked = len(rejects) + sum(len(chain.steps) for chain in right)
    stored = {image: store_image(image, source.folder, out) for chain in right for image in chain.images}

    chains: list[dict[str, Any]] = []
    for chain, result in await pool.finish(right, partial(corrupt_chain, folder=source.folder)):
        if isinstance(result, AttemptError):
            rejects += (result.reject(f"{chain.id}/{number}", {}) for number in range(1, len(chain.steps) + 1))
            continue
        source_name, _ = origins.get(chain.id, ("unknown", ""))
        about = {"method": "corrupt", "teacher": pool.teacher.model, "source": source_name}
        moved = chain.model_copy(update={"images": tuple(stored[image] for image in chain.images)})
        for kind, version in labelled_pairs(moved, result):
            chains.append({**version.model_dump(exclude_none=True), **about, "kind": kind})
        for number, fields in result["missing"].items():
            record = {"right": chain.steps[int(number) - 1]}
            rejects.append(AttemptError(*fields).reject(f"{chain.id}/{number}", record))
    return Annotation(asked, len(chains) // 2, chains, rejects)


def _kind(reject: Reject) -> str:
    """Returns the reason without the details of its record."""
    if reject.reason.startswith("image:"):
        return "broken image"
    return "id occurred before" if reject.reason.endswith("occurred before") else reject.reason


def _check_end(out: Path, annotation: Annotation, pool: QuestionPool) -> None:
    """Reports what ended the run early."""
    if pool.error:
        raise AtomThinkError(f"{pool.error}. The results so far are kept in {out}: run the command again to continue")
    if pool.limit:
        raise LimitError(
            f"{pool.limit}. {annotation.good} of {annotation.asked} are done and kept in {out}: raise the limit and "
            "run the command again to continue"
        )
    unanswered = [one["detail"] for one in annotation.rejects if one["stage"] == "server"]
    if unanswered and len(unanswered) == annotation.asked:
        raise AtomThinkError(f"the server answered none of {annotation.asked} requests; the first: {unanswered[0]}")


def _print_next(out: Path, annotation: Annotation, trained: str) -> None:
    if annotation.chains:
        print(f"next: atomthink train {trained} RECIPE.yaml --data {out / 'chains.jsonl'}")
