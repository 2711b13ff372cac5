"""The runs of `atomthink annotate`: from questions to chains, by a teacher or by a local model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.named_models import rollout_plan
from atomthink_plugin.plugins.arguments import read_pairs
from atomthink_plugin.redaction import printable
from atomthink_plugin.runtime.build import build
from atomthink_plugin.runtime.event_loop import run
from atomthink_plugin.training.annotate import own_rollouts, prompts
from atomthink_plugin.training.annotate.attempt import AttemptSettings, WriteChain, annotate_question
from atomthink_plugin.training.annotate.augment import augment
from atomthink_plugin.training.annotate.budget import LimitError, SpendingBudget, read_price
from atomthink_plugin.training.annotate.corrupt import corrupt_chain, labelled_pairs
from atomthink_plugin.training.annotate.dynamic import extend_stepwise
from atomthink_plugin.training.annotate.ledger import Ledger
from atomthink_plugin.training.annotate.question_pool import QuestionPool
from atomthink_plugin.training.annotate.results import Annotation, StageReject, write_results
from atomthink_plugin.training.annotate.teacher import Teacher, connect
from atomthink_plugin.training.export import read_origins
from atomthink_plugin.training.images import store_image
from atomthink_plugin.training.records import AnsweredQuestion, Chain, RecordFile, read_records
from atomthink_plugin.training.sources import read_questions
from atomthink_plugin.version import __version__

Method = Literal["dynamic", "augment", "corrupt"]

_WRITERS: Final[Mapping[str, WriteChain]] = {"dynamic": extend_stepwise, "augment": augment}


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

    Args:
        source: The questions, as for `read_questions`; for "corrupt" a JSONL file of right chains.
        out: The output folder.
        teacher_model: The server's name for the teacher.
        base_url: Address of an OpenAI-compatible server; None for OpenAI.
        method: How chains are written.
        split: Split of a dataset with several.
        columns: Columns of the fields of a question, as `question=problem,images=picture`.
        limit: Reads only the first records.
        checks: Number of checks by the teacher that a chain has to pass.
        tries: Attempts per question.
        max_steps: Maximum number of steps of a chain; None for 25.
        concurrency: Questions at the same time.
        timeout: Seconds that one try of a request may take.
        max_retries: Retries of a request, each of them paid.
        wait: Seconds to wait for a server that cannot be reached.
        prices: YAML file with the price of the teacher.
        max_tokens_total: Limit on the tokens of all runs in `out`.
        max_usd: Limit on the USD of all runs in `out`.

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
        connection = {"connections": concurrency, "max_retries": max_retries}
        teacher = connect(teacher_model, base_url, budget, ledger, timeout=timeout, wait=wait, **connection)
        pool = QuestionPool(ledger, budget, concurrency, f"annotate ({method})")
        if method == "corrupt":
            chains = read_records(Path(source), Chain, limit=limit)
            annotation = run(_corrupt(chains, read_origins(Path(source)), out, teacher, pool, settings))
        else:
            questions = read_questions(source, out, split=split, columns=_columns(columns), limit=limit)
            annotation = run(_write_chains(questions, teacher, pool, method, settings))
    _print_summary(out, write_results(out, annotation, {"method": method, "teacher": teacher_model}, budget.spent))
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

    Args:
        source: The questions, as for `read_questions`.
        out: The output folder.
        model: Name of the model, as for lmms-eval.
        model_args: Its arguments, as for lmms-eval.
        samples: Rollouts per question.
        split: Split of a dataset with several.
        columns: Columns of the fields of a question, as `question=problem,images=picture`.
        limit: Reads only the first records.

    Raises:
        AtomThinkError: An argument or a file cannot be used.
    """
    questions = read_questions(source, out, split=split, columns=_columns(columns), limit=limit)
    runner = build(rollout_plan(model, read_pairs("--model-args", model_args)))
    annotation, rollouts = own_rollouts.annotate_by_rollouts(questions, runner, model, samples)
    header = {"method": own_rollouts.METHOD, "teacher": model, "samples": samples, "rollouts": dict(rollouts)}
    _print_summary(out, write_results(out, annotation, header, None))
    _print_next(out, annotation, "policy")


def _columns(text: str) -> dict[str, str]:
    pairs = [[side.strip() for side in pair.split("=", 1)] for pair in text.split(",") if pair.strip()]
    if not all(len(pair) == 2 and all(pair) for pair in pairs):
        raise AtomThinkError(f"`--columns {text}`: write it like question=problem,images=picture")
    return dict(pairs)


async def _write_chains(
    source: RecordFile[AnsweredQuestion],
    teacher: Teacher,
    pool: QuestionPool,
    method: Method,
    settings: AttemptSettings,
) -> Annotation:
    """Asks for a chain for each question."""
    rejects = [StageReject(one.where, "input", _kind(one.reason), one.reason, one.record) for one in source.rejects]
    keys: dict[str, AnsweredQuestion] = {}
    for record in source.records:
        if method == "augment" and not record.solution.strip():
            rejects.append(StageReject(record.id, "input", "no reference solution", record=record.model_dump()))
        else:
            keys[_key(record, teacher, method, settings)] = record

    await pool.finish(
        {
            key: partial(annotate_question, teacher, key, record, source.folder, _WRITERS[method], settings)
            for key, record in keys.items()
        }
    )
    chains = []
    for key, record in keys.items():
        result = pool.results.get(key)
        if result is None:
            rejects.append(StageReject.of(record.id, pool.missing(key), record.model_dump()))
        elif "steps" in result:
            chain = Chain(**record.model_dump(exclude={"solution", "options", "source"}), steps=result["steps"])
            about = {"method": method, "teacher": teacher.model, "source": record.source}
            chains.append({**chain.model_dump(exclude_none=True), **about})
        else:
            faults = result["faults"]
            rejects.append(StageReject(record.id, **faults[-1], record=record.model_dump(), faults=faults))
    return Annotation(source.read, len(chains), chains, rejects)


async def _corrupt(
    source: RecordFile[Chain],
    origins: Mapping[str, tuple[str, str]],
    out: Path,
    teacher: Teacher,
    pool: QuestionPool,
    settings: AttemptSettings,
) -> Annotation:
    """Asks for a wrong version of each step, and returns both versions as labelled chains."""
    rejects = [
        StageReject(one.where, "input", "no chain", one.reason, {"record": one.record}) for one in source.rejects
    ]
    keys: dict[str, Chain] = {}
    for chain in source.records:
        error = None if chain.labels is None else chain.first_error()
        if error is None:
            keys[_key(chain, teacher, "corrupt", settings)] = chain
        else:
            record = chain.model_dump(exclude_none=True)
            rejects.append(StageReject(chain.id, "input", "a step is labelled wrong", f"step {error + 1}", record))
    asked = len(rejects) + sum(len(chain.steps) for chain in keys.values())
    stored = {image: store_image(image, source.folder, out) for chain in keys.values() for image in chain.images}

    await pool.finish(
        {key: partial(corrupt_chain, teacher, key, chain, source.folder, settings) for key, chain in keys.items()}
    )
    chains: list[dict[str, Any]] = []
    for key, chain in keys.items():
        result = pool.results.get(key)
        if result is None:
            places = (f"{chain.id}/{number}" for number in range(1, len(chain.steps) + 1))
            rejects += (StageReject.of(place, pool.missing(key), {}) for place in places)
            continue
        about = {"method": "corrupt", "teacher": teacher.model, "source": origins.get(chain.id, ("unknown",))[0]}
        moved = chain.model_copy(update={"images": tuple(stored[image] for image in chain.images)})
        for kind, version in labelled_pairs(moved, result):
            chains.append({**version.model_dump(exclude_none=True), **about, "kind": kind})
        for number, (stage, reason, detail) in result["missing"].items():
            record = {"right": chain.steps[int(number) - 1]}
            rejects.append(StageReject(f"{chain.id}/{number}", stage, reason, detail, record))
    return Annotation(asked, len(chains) // 2, chains, rejects)


def _key(record: AnsweredQuestion | Chain, teacher: Teacher, method: Method, settings: AttemptSettings) -> str:
    """Returns the key of a record in the ledger, with a digest of all that changes its result.

    Ledgers of earlier versions are continued, so this stays as it is, with "wrong" for the method "corrupt".
    """
    corrupt = method == "corrupt"
    options = {"way": "wrong" if corrupt else method, "teacher": teacher.model, **asdict(settings)}
    return f"{record.id}#{_digest([options if corrupt else _digest(options), record.model_dump()])}"


def _digest(content: Any) -> str:
    text = json.dumps([__version__, prompts.FINGERPRINT, content], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _kind(reason: str) -> str:
    """Returns the reason for a reject without the details of its record."""
    if reason.startswith("image:"):
        return "broken image"
    return "id occurred before" if reason.endswith("occurred before") else reason


def _check_end(out: Path, annotation: Annotation, pool: QuestionPool) -> None:
    """Reports what ended the run early."""
    if pool.error:
        raise AtomThinkError(f"{pool.error}. The results so far are kept in {out}: run the command again to continue")
    if pool.limit:
        raise LimitError(
            f"{pool.limit}. {annotation.good} of {annotation.asked} are done and kept in {out}: raise the limit and "
            "run the command again to continue"
        )
    unanswered = [one for one in annotation.rejects if one.stage == "server"]
    if unanswered and len(unanswered) == annotation.asked:
        raise AtomThinkError(
            f"the server answered none of {annotation.asked} requests; the first: {unanswered[0].detail}"
        )


def _print_summary(out: Path, summary: Mapping[str, Any]) -> None:
    what = "steps" if summary["method"] == "corrupt" else "questions"
    print(f"{summary['good']} of {summary['asked']} {what} gave {summary['chains']} chains: {out / 'chains.jsonl'}")
    if summary["rejected"]:
        print(f"{summary['rejected']} {what} were rejected, with details in {out / 'rejects.jsonl'}:")
    for stage, reasons in summary["rejects"].items():
        for reason, count in sorted(reasons.items(), key=lambda pair: -pair[1]):
            print(printable(f"{count:8d}  {stage}: {reason}"))
    if spent := summary.get("spent"):
        print(
            f"{spent['calls']} calls, {spent['prompt']} prompt tokens ({spent['cached']} cached), "
            f"{spent['completion']} completion tokens, up to {spent['unknown']} more that were not counted, "
            f"{spent['usd']:.4f} USD"
        )


def _print_next(out: Path, annotation: Annotation, trained: str) -> None:
    if annotation.chains:
        print(f"next: atomthink train {trained} RECIPE.yaml --data {out / 'chains.jsonl'}")
