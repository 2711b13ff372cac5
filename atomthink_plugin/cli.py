"""The `atomthink` command; everything heavy is imported by the command that needs it."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from cyclopts import App, CycloptsError, Group, Parameter, UnusedCliTokensError

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.doctor.cli import doctor
from atomthink_plugin.redaction import PrintableFormatter, printable
from atomthink_plugin.report import cli as report
from atomthink_plugin.rollouts import cli as rollouts
from atomthink_plugin.tasks import cli as tasks
from atomthink_plugin.training import cli as training
from atomthink_plugin.version import __version__

INTERRUPTED: Final = 130
"""Exit status after Ctrl-C, as shells report it: 128 + SIGINT."""

TRY, EVALUATE, LOOK, DATA, TRAIN = (
    Group(name, sort_key=place) for place, name in enumerate(("Try", "Evaluate", "Look at runs", "Make data", "Train"))
)


def _shown(default: object) -> Any:
    """Returns a default as a user would type it; empty ones and switches that are off are not shown."""
    if not default:
        return None
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


app = App(
    name="atomthink",
    help="Slow thinking for multimodal models. Evaluations run through lmms-eval: "
    "`lmms-eval --model atomthink_tiny --model_args thinking=slow --tasks atomthink_demo`",
    help_epilogue="Exit status: 0, 2 for input that cannot be used, 3 at a spending limit, 130 after Ctrl-C.",
    version=__version__,
    help_format="markdown",
    default_parameter=Parameter(negative=(), show_default=_shown),
    suppress_keyboard_interrupt=False,
)
app["--help"].group = app["--version"].group = Group("Options", sort_key=9)

app.command(tasks.demo, group=TRY)
app.command(doctor, group=TRY)
app.command(tasks.submit, group=EVALUATE)
app.command(tasks.steps, group=EVALUATE)
app.command(rollouts.score, group=EVALUATE)

prm = App(name="prm", help="List, measure and correct process reward models.", group=EVALUATE)
prm.command(training.prm_profiles, name="profiles")
prm.command(training.prm_eval, name="eval")
prm.command(training.prm_mine, name="mine")
app.command(prm)

atoms = App(name="atoms", help="Measure how well a model does each kind of step (atomic capability).", group=EVALUATE)
atoms.command(tasks.build_atoms, name="build")
atoms.command(tasks.evaluate_atoms, name="evaluate")
app.command(atoms)

app.command(report.view, group=LOOK)
app.command(report.compare, group=LOOK)
app.command(report.scale, group=LOOK)

app.command(training.annotate, group=DATA)
app.command(training.label, group=DATA)

examples = App(name="examples", help="Make solved examples for `format=few_shot`.", group=DATA)
examples.command(training.examples_build, name="build")
app.command(examples)

app.command(training.pairs, group=DATA)

data = App(name="data", help="Write training records from chains, and read published ones.", group=DATA)
data.command(training.data_sft, name="sft")
data.command(training.data_prm, name="prm")
data.command(training.data_stages, name="stages")
data.command(training.data_read, name="read")
data.command(training.data_quality, name="quality")
app.command(data)

app.command(training.init, group=TRAIN)

train = App(name="train", help="Train a policy or a process reward model.", group=TRAIN)
train.command(training.train_policy, name="policy")
train.command(training.train_dpo, name="dpo")
train.command(training.train_prm, name="prm")
train.command(training.train_tiny, name="tiny")
app.command(train)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        0, 2 for input that cannot be used, 3 at a spending limit, 130 after an interrupt (Ctrl-C). The reason is on
        standard error.
    """
    try:
        _show_logs()
        _leave_interrupts_to_this_process()
        app(arguments, print_error=False, exit_on_error=False, result_action="return_value")
    except CycloptsError as error:
        command = " ".join(("atomthink", *(error.command_chain or ())))
        print(f"atomthink: {printable(_explained(error))} See `{command} --help`.", file=sys.stderr)
        return 2
    except AtomThinkError as error:
        print(f"atomthink: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("atomthink: interrupted", file=sys.stderr)
        if arguments is None:  # this is the whole program
            # A batch may still run in a thread: the usual exit would wait for it for seconds, or crash in it.
            sys.stdout.flush()
            os._exit(INTERRUPTED)
        return INTERRUPTED
    return 0


def _explained(error: CycloptsError) -> str:
    if isinstance(error, UnusedCliTokensError):
        return f"unexpected argument: {' '.join(error.unused_tokens or ())}. Options are written `--name value`."
    return re.sub(r"(?<=[^.?])$", ".", str(error))


def _show_logs() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PrintableFormatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])  # libraries log requests, threads and the like
    logging.getLogger("atomthink_plugin").setLevel(logging.INFO)


@cache
def _leave_interrupts_to_this_process() -> None:
    """Keeps forked workers from printing a traceback each: a terminal sends the interrupt to all of them."""
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))


if __name__ == "__main__":
    sys.exit(main())
