"""The arguments of `atomthink annotate`, and what they start."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
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

_CONCURRENCY: Final = 16

_OF_TEACHER: Final = (
    *("base_url", "way", "checks", "tries", "max_steps", "concurrency", "timeout", "max_retries", "wait"),
    *("prices", "max_tokens_total", "max_usd"),
)
_OF_POLICY: Final = ("model_args", "samples")
_OF_QUESTIONS: Final = ("split", "columns", "max_steps")
"""What chains that are there already have no use for."""

_LEAST: Final[Mapping[str, int]] = {
    **dict.fromkeys(("limit", "samples", "tries", "concurrency", "max_tokens_total"), 1),
    "max_steps": 2,  # one is a direct answer
    **dict.fromkeys(("max_retries", "wait"), 0),
}


def add_to(commands: Any) -> None:
    """Adds the subcommand to the parser of `atomthink`."""
    parser = commands.add_parser(
        "annotate",
        help="let a teacher or a local model write chains of atomic steps for questions with known answers",
        description="Writes DIR/chains.jsonl (what passed all filters), rejects.jsonl (the other questions, each with "
        "stage and reason), and summary.json (counts and costs). A run that is started again goes on where it "
        "stopped. Ends with 3 where a spending limit is reached.",
    )
    parser.add_argument(
        "input",
        help="JSONL, or a dataset of the hub or a folder, of questions; with --way wrong: JSONL of right chains",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="what is written, and kept to go on from"
    )
    _add_input(parser.add_argument_group("questions"))
    _add_teacher(parser.add_argument_group("a teacher behind an OpenAI-compatible server (its key: OPENAI_API_KEY)"))
    local = parser.add_argument_group("a local model instead: its own rollouts, kept where the answer is right")
    local.add_argument("--model", metavar="NAME", help="as for lmms-eval: atomthink_hf, atomthink_tiny, ...")
    local.add_argument("--model_args", metavar="A=B,...", help="as for lmms-eval")
    local.add_argument("--samples", type=int, metavar="N", help="rollouts per question (default: 8)")
    parser.set_defaults(command=_annotate)


def _add_input(group: Any) -> None:
    group.add_argument("--split", metavar="NAME", help="of a dataset that has several")
    group.add_argument(
        "--columns",
        metavar="FIELD=NAME,...",
        help="columns of id, question, images, answer, solution, options, source (default: the usual names)",
    )
    group.add_argument("--limit", type=int, metavar="N", help="only the first N records")


def _add_teacher(group: Any) -> None:
    group.add_argument("--teacher-model", metavar="NAME", help="what the server calls it")
    group.add_argument("--base-url", metavar="URL", help="any OpenAI-compatible server (default: OpenAI's)")
    group.add_argument(
        "--way",
        choices=("dynamic", "augment", "wrong"),
        help="dynamic (default): the teacher extends a chain step by step; augment: it writes out a reference "
        "solution; wrong: it writes a wrong version of each step of a right chain",
    )
    group.add_argument("--checks", type=int, choices=(0, 1, 2), help="opinions that have to agree (default: 2)")
    group.add_argument("--tries", type=int, metavar="N", help="per question (default: 2)")
    group.add_argument("--max-steps", type=int, metavar="N", help="of a chain (default: 25)")
    group.add_argument("--concurrency", type=int, metavar="N", help="questions at a time (default: 16)")
    group.add_argument("--timeout", type=float, metavar="S", help="seconds of a try of a request (default: 300)")
    group.add_argument("--max-retries", type=int, metavar="N", help="of a request, each paid for (default: 5)")
    group.add_argument("--wait", type=float, metavar="S", help="seconds for a server that went away (default: 600)")
    group.add_argument(
        "--prices", type=Path, metavar="FILE", help="YAML: NAME: {prompt: .., completion: .., cached: ..}"
    )
    group.add_argument("--max-tokens-total", type=int, metavar="N", help="spend no more, all runs together")
    group.add_argument("--max-usd", type=float, metavar="X", help="likewise, by --prices")


def _annotate(options: argparse.Namespace) -> None:
    _require(options)
    if options.model is not None:
        _by_rollouts(options)
    else:
        _by_teacher(options)


def _require(options: argparse.Namespace) -> None:
    """Refuses what does not go together, before anything is asked."""
    if (options.model is None) == (options.teacher_model is None):
        raise AtomThinkError("name who writes the chains: either `--teacher-model`, or `--model` as for lmms-eval")
    others, chosen = (_OF_TEACHER, "--model") if options.model is not None else (_OF_POLICY, "--teacher-model")
    _refuse(options, others, chosen)
    if options.way == "wrong":
        _refuse(options, _OF_QUESTIONS, "--way wrong")
    for name, least in _LEAST.items():
        value = getattr(options, name)
        if value is not None and not value >= least:
            raise AtomThinkError(f"`{_typed(name, value)}`: has to be {least} or more")
    for name in ("max_usd", "timeout"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise AtomThinkError(f"`{_typed(name, value)}`: has to be more than 0")


def _refuse(options: argparse.Namespace, names: Sequence[str], chosen: str) -> None:
    for name in names:
        value = getattr(options, name)
        if value is not None:
            raise AtomThinkError(f"`{_typed(name, value)}` does not go with `{chosen}`: leave it out")


def _typed(name: str, value: object) -> str:
    return f"--{name if name == 'model_args' else name.replace('_', '-')} {value}"


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Returns those of the options that were typed: the others have their defaults where they are used."""
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def _by_teacher(options: argparse.Namespace) -> None:
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
    way, concurrency = options.way or "dynamic", options.concurrency or _CONCURRENCY
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


async def _work(
    options: argparse.Namespace, teacher: Any, engine: Any, way: str, settings: AttemptSettings
) -> tuple[Made, Finished]:
    from atomthink_plugin.training.annotate.annotating import annotate
    from atomthink_plugin.training.annotate.questions import saved
    from atomthink_plugin.training.annotate.wrong import WAY, annotate_wrong
    from atomthink_plugin.training.export.folders import read_about
    from atomthink_plugin.training.records import Chain, read_records

    if way != WAY:
        return await annotate(_read(options), options.out, teacher, engine, way, settings)
    found = read_records(Path(options.input), Chain, limit=options.limit)
    images = {image for chain in found.records for image in chain.images}
    names = {image: saved(image, found.folder, options.out) for image in images}
    sources = {name: about["source"] for name, about in read_about(Path(options.input)).items()}
    return await annotate_wrong(found, sources, names, teacher, engine, settings)


def _by_rollouts(options: argparse.Namespace) -> None:
    from atomthink_plugin.named_models import rollout_plan
    from atomthink_plugin.plugins.arguments import read_pairs
    from atomthink_plugin.runtime.build import build
    from atomthink_plugin.training.annotate.outputs import write
    from atomthink_plugin.training.annotate.rollouts import WAY, roll_out

    samples = options.samples or 8
    found = _read(options)
    runner = build(rollout_plan(options.model, read_pairs("--model_args", options.model_args or "")))
    made, counts = roll_out(found, options.out, runner, options.model, samples)
    told = {"way": WAY, "teacher": options.model, "samples": samples, "rollouts": dict(counts)}
    _tell(options.out, write(options.out, made, told, None))


def _read(options: argparse.Namespace) -> Any:
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
