"""The `atomthink` command; everything heavy is imported by the command that needs it."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.redaction import PrintableFormatter
from atomthink_plugin.report import command as report
from atomthink_plugin.tasks.capability import command
from atomthink_plugin.training import command as training
from atomthink_plugin.training.annotate import command as annotation
from atomthink_plugin.training.evaluate import command as prm
from atomthink_plugin.training.export import command as data
from atomthink_plugin.training.label import command as labels
from atomthink_plugin.version import __version__

INTERRUPTED: Final = 130
"""Exit status after Ctrl-C, as shells report it: 128 + SIGINT."""

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        0, 2 for input that cannot be used, 130 after an interrupt (Ctrl-C): the reason is on standard error.
    """
    try:
        options = _parser().parse_args(arguments)
        _show_logs()
        _leave_interrupts_to_this_process()
        options.command(options)
    except AtomThinkError as error:
        print(f"atomthink: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("atomthink: interrupted", file=sys.stderr)
        if arguments is None:  # this is the whole program
            # A batch may still run in a thread: the usual exit would wait for it for seconds, or crash in it.
            sys.stdout.flush()
            os._exit(INTERRUPTED)
        return INTERRUPTED
    return 0


def _show_logs() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PrintableFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


@cache
def _leave_interrupts_to_this_process() -> None:
    """Keeps forked workers from printing a traceback each: a terminal sends the interrupt to all of them."""
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))


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
    training.add_to(commands)
    labels.add_to(commands)
    prm.add_to(commands)
    annotation.add_to(commands)
    data.add_to(commands)
    report.add_to(commands)
    _add_submit(commands)
    _add_steps(commands)
    return parser


def _add_submit(commands: Commands) -> None:
    submit = commands.add_parser(
        "submit",
        help="write a benchmark's official submission file from a run of lmms-eval",
        description="Writes the official file of a benchmark from the samples of a run. Questions that are missing, "
        "failed or without a reply are counted, and nothing is written while there are any.",
    )
    submit.add_argument("benchmark", choices=("mathvista", "mathverse", "mathvision"))
    submit.add_argument("run", type=Path, metavar="RUN", help="folder of --output_path, or a ..._results.json in it")
    submit.add_argument("--task", metavar="NAME", help="the task that is meant, where RUN asked a question repeatedly")
    submit.add_argument("--output", type=Path, metavar="FILE", help="the file to write (default: in RUN)")
    submit.add_argument(
        "--allow-incomplete",
        action="store_true",
        help="write the file all the same: without what is missing or failed, with empty replies as they are",
    )
    submit.set_defaults(command=_submit)


def _add_steps(commands: Commands) -> None:
    steps = commands.add_parser(
        "steps",
        help="the quality of a run's atomic steps",
        description="Tells, for the samples of a run by any model: steps per answer, well-formed chains, repeated "
        "steps, tokens per answer, and the scores of the steps where a scorer ran.",
    )
    steps.add_argument("run", type=Path, metavar="RUN", help="folder of --output_path, or a ..._results.json in it")
    steps.add_argument("--json", type=Path, metavar="FILE", help="also write the rows and all scored steps to FILE")
    steps.set_defaults(command=_steps)


def _demo(options: argparse.Namespace) -> None:
    print("loading torch and the embedded model ...", file=sys.stderr, flush=True)  # takes seconds
    from atomthink_plugin.tasks.demo.comparison import run

    run(options.questions, options.modes, options.json)


def _submit(options: argparse.Namespace) -> None:
    from atomthink_plugin.tasks.submissions.official_files import submit

    given = (options.benchmark, options.run, options.task, options.output, options.allow_incomplete)
    for file in submit(*given):
        print(file)


def _steps(options: argparse.Namespace) -> None:
    from atomthink_plugin.tasks.step_report import show

    show(options.run, options.json)


if __name__ == "__main__":
    sys.exit(main())
