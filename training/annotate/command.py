"""What `atomthink annotate` starts."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.redaction import printable

if TYPE_CHECKING:
    from atomthink_plugin.training.annotate.engine import Finished
    from atomthink_plugin.training.annotate.outputs import Made
    from atomthink_plugin.training.annotate.solving import AttemptSettings

LIMIT_REACHED: Final = 3
"""Exit code where a spending limit ended the run; what is done is kept."""


def _given(options: Any, *names: str) -> dict[str, Any]:
    """Returns those of the options that were typed: the others have their defaults where they are used."""
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def by_teacher(options: Any) -> None:
    """Lets a teacher write the chains."""
    from atomthink_plugin.runtime.event_loop import run
    from atomthink_plugin.training.annotate.engine import Engine
    from atomthink_plugin.training.annotate.ledger import Ledger
    from atomthink_plugin.training.annotate.meter import Meter, read_price
    from atomthink_plugin.training.annotate.outputs import write
    from atomthink_plugin.training.annotate.solving import AttemptSettings
    from atomthink_plugin.training.annotate.teacher import connect

    price = read_price(options.prices, options.teacher_model) if options.prices else None
    Meter(price, options.max_tokens_total, options.max_usd)  # refuses before anything is written
    settings = AttemptSettings(**_given(options, "tries", "max_steps", "checks"))
    way, concurrency = options.way, options.concurrency
    with closing(Ledger(options.out)) as ledger:
        meter = Meter(price, options.max_tokens_total, options.max_usd, ledger.spent)
        teacher = connect(
            options.teacher_model,
            options.base_url,
            meter,
            ledger,
            connections=concurrency,
            **_given(options, "timeout", "max_retries", "wait"),
        )
        engine = Engine(ledger, meter, concurrency, f"annotate ({way})")
        made, done = run(_work(options, teacher, engine, way, settings))
    summary = write(options.out, made, {"way": way, "teacher": options.teacher_model}, meter.spent)
    _tell(options.out, summary)
    _end(options.out, made, done)


async def _work(options: Any, teacher: Any, engine: Any, way: str, settings: AttemptSettings) -> tuple[Made, Finished]:
    from atomthink_plugin.training.annotate.annotating import annotate
    from atomthink_plugin.training.annotate.questions import saved
    from atomthink_plugin.training.annotate.wrong import WAY, annotate_wrong
    from atomthink_plugin.training.export import read_origins
    from atomthink_plugin.training.records import Chain, read_records

    if way != WAY:
        return await annotate(_read(options), options.out, teacher, engine, way, settings)
    found = read_records(Path(options.input), Chain, limit=options.limit)
    images = {image for chain in found.records for image in chain.images}
    names = {image: saved(image, found.folder, options.out) for image in images}
    sources = {name: source for name, (source, _) in read_origins(Path(options.input)).items()}
    return await annotate_wrong(found, sources, names, teacher, engine, settings)


def by_rollouts(options: Any) -> None:
    """Keeps the right rollouts of a local model."""
    from atomthink_plugin.named_models import rollout_plan
    from atomthink_plugin.plugins.arguments import read_pairs
    from atomthink_plugin.runtime.build import build
    from atomthink_plugin.training.annotate.outputs import write
    from atomthink_plugin.training.annotate.rollouts import WAY, roll_out

    samples = options.samples or 8
    found = _read(options)
    runner = build(rollout_plan(options.model, read_pairs("--model-args", options.model_args or "")))
    made, counts = roll_out(found, options.out, runner, options.model, samples)
    told = {"way": WAY, "teacher": options.model, "samples": samples, "rollouts": dict(counts)}
    _tell(options.out, write(options.out, made, told, None))


def _read(options: Any) -> Any:
    from atomthink_plugin.training.annotate.questions import read_items

    return read_items(
        options.input, options.out, split=options.split, columns=_columns(options.columns or ""), limit=options.limit
    )


def _columns(typed: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in typed.split(",") if pair.strip()]
    for field, equals, name in pairs:
        if not (equals and field.strip() and name.strip()):
            raise AtomThinkError(f"`--columns {typed}`: write it like question=problem,images=picture")
    return {field.strip(): name.strip() for field, _, name in pairs}


def _tell(out: Path, summary: Mapping[str, Any]) -> None:
    """Prints what came of it, and why the rest did not."""
    what = "steps" if summary["way"] == "wrong" else "questions"
    print(f"{summary['good']} of {summary['asked']} {what} gave {summary['chains']} chains, in {out / 'chains.jsonl'}")
    for stage, reasons in summary["rejects"].items():
        for reason, count in sorted(reasons.items(), key=lambda pair: -pair[1]):
            print(printable(f"{count:8d}  {stage}: {reason}"))
    if "spent" in summary:
        spent = summary["spent"]
        print(
            f"{spent['calls']} calls, {spent['prompt']} prompt tokens ({spent['cached']} cached), "
            f"{spent['completion']} completion tokens, {spent['unknown']} unknown, {spent['usd']:.4f} USD"
        )


def _end(out: Path, made: Made, done: Finished) -> None:
    """Says what ended the run early, if anything did."""
    if done.fault:
        raise AtomThinkError(f"{done.fault}. What was done is kept in {out}: run it again to go on")
    if done.limit:
        print(
            f"atomthink: {done.limit}; {made.good} of {made.asked} are done and kept in {out}: raise the limit and run "
            "it again to go on",
            file=sys.stderr,
        )
        raise SystemExit(LIMIT_REACHED)
    if made.asked and len([one for one in made.lost if one.stage == "server"]) == made.asked:
        raise AtomThinkError(f"the server answered none of {made.asked}; the first: {made.lost[0].detail}")
