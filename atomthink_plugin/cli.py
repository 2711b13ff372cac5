"""The `atomthink` command; everything heavy is imported by the command that needs it."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from atomthink_plugin import __version__
from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.tasks.atoms import command


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        0, or 2 for input that cannot be used: the reason is on standard error.
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        options.command(options)
    except AtomThinkError as error:
        print(f"atomthink: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="atomthink",
        description="Slow thinking for multimodal models. Evaluations run through lmms-eval: "
        "lmms-eval --model atomthink_tiny --model_args thinking=slow --tasks atomthink_demo",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="compare ways of thinking on the embedded model",
        description="Answers held-out questions about figures with the embedded model, in several ways of thinking.",
    )
    demo.add_argument("--questions", type=int, default=200, metavar="N", help="how many questions (default: 200)")
    demo.add_argument(
        "--modes",
        nargs="+",
        default=["direct", "cot", "quick", "slow"],
        metavar="MODE",
        help="direct, cot, quick, slow, or slow:SEARCH such as slow:best_of_n (default: the first four)",
    )
    demo.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    demo.set_defaults(command=_demo)
    command.add_to(commands)
    return parser


def _demo(options: argparse.Namespace) -> None:
    from atomthink_plugin.tasks.demo.compare import run

    run(options.questions, options.modes, options.json)


if __name__ == "__main__":
    sys.exit(main())
