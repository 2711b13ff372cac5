"""The arguments of `atomthink prm`, and what they start."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

from atomthink_plugin.api import AtomThinkError

FORMATS: Final = ("chains", "processbench", "visualprocessbench", "prmbench", "bigbench_mistake")
BEST: Final = "best-on"


def add_to(commands: Any) -> None:
    """Adds the subcommands to the parser of `atomthink`."""
    prm = commands.add_parser("prm", help="measure a process reward model, or look for what it misjudges")
    actions = prm.add_subparsers(required=True, metavar="ACTION")
    _add_eval(actions)
    _add_mine(actions)


def _add_eval(actions: Any) -> None:
    parser = actions.add_parser(
        "eval",
        help="on labelled steps",
        description="Scores every step of a labelled set as a search would, and says how well the scores tell right "
        "steps from wrong ones: first-error F1, macro-F1, AUC, calibration, best-of-N gain.",
    )
    parser.add_argument("set", metavar="SET", help="JSONL, JSON, parquet, a folder with such files, or a hub dataset")
    _add_scorer(parser)
    parser.add_argument("--format", choices=FORMATS, help="of SET (default: told from its fields)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N records")
    parser.add_argument(
        "--threshold",
        nargs="+",
        default=["0.5"],
        metavar="X",
        help="steps scored below it count as taken for wrong (default: 0.5); `best-on OTHER` takes the one with the "
        "highest first-error F1 on another set",
    )
    parser.add_argument("--rejects", type=Path, metavar="FILE", help="write records that cannot be used to FILE")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers to FILE")
    parser.set_defaults(command=_eval)


def _add_mine(actions: Any) -> None:
    parser = actions.add_parser(
        "mine",
        help="labelled chains that a PRM misjudges, for its next round of training",
        description="Scores all steps of labelled chains, best those that the policy sampled, and writes the chains "
        "with a step whose score is further than 0.5 from its label, the worst first.",
    )
    parser.add_argument("chains", type=Path, metavar="CHAINS", help="labelled chains, as `atomthink label` writes them")
    _add_scorer(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="where the misjudged ones go")
    parser.set_defaults(command=_mine)


def _add_scorer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prm", metavar="PRM", help="checkpoint, as `prm=` of a run")
    parser.add_argument("--scorer", metavar="NAME", help="its kind, where its config does not tell")
    parser.add_argument("--args", default="", metavar="A=B,...", help="the scorer's: prm_dtype=float32,...")
    parser.add_argument("--scores", type=Path, metavar="FILE", help="keep scores in FILE; a killed run goes on from it")


def _scorer(options: argparse.Namespace) -> dict[str, Any]:
    """Returns `prm`, `scorer` and the scorer's arguments as they were typed."""
    from atomthink_plugin.plugins.arguments import read_pairs

    named = {"prm": options.prm, "scorer": options.scorer}
    return {**read_pairs("--args", options.args), **{k: v for k, v in named.items() if v is not None}}


def _mine(options: argparse.Namespace) -> None:
    from atomthink_plugin.report.output_files import writable
    from atomthink_plugin.training.evaluate.mining import mine

    for option in ("scores", "out"):
        writable(f"--{option}", getattr(options, option))
    mine(options.chains, options.out, _scorer(options), options.scores)


def _eval(options: argparse.Namespace) -> None:
    from atomthink_plugin.report.output_files import writable
    from atomthink_plugin.training.evaluate.evaluating import Wanted, evaluate

    if options.limit is not None and options.limit < 1:
        raise AtomThinkError(f"`--limit {options.limit}`: has to be 1 or more")
    for option in ("scores", "rejects", "json"):
        writable(f"--{option}", getattr(options, option))
    wanted = Wanted(
        source=options.set,
        format=options.format,
        limit=options.limit,
        threshold=_threshold(options.threshold),
        scores=options.scores,
        rejects=options.rejects,
        json=options.json,
    )
    evaluate(wanted, _scorer(options))


def _threshold(typed: list[str]) -> float | str:
    """Returns the threshold, or the name of the set on which it is to be chosen."""
    if typed[0] == BEST and len(typed) == 2:
        return typed[1]
    try:
        (value,) = map(float, typed)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise AtomThinkError(f"`--threshold {' '.join(typed)}`: has to be a number from 0 to 1, or `{BEST} OTHER`")
    return value
