"""What lmms-eval's own command line does with runs of these models: it refuses mistakes early, and exits with a status.

lmms-eval reads its arguments, parses all task files, makes the model and catches whatever that raises: it prints a
traceback and exits with 0. Here, the arguments of a run are checked before the task files are parsed, an
`AtomThinkError` is one line, and a run that failed ends the command with a status. Calls from Python are as before.

Can go when lmms-eval lets a model check its arguments, and exits with a status after a failed run.
"""

from __future__ import annotations

import functools
import os
import sys
import time
import traceback
from argparse import Namespace
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.model_adapters.register import CLASSES, model_class

MODULE: Final = "lmms_eval.__main__"

REFUSED: Final = 2
"""Exit status after an AtomThinkError, as of the command `atomthink`."""

FAILED: Final = 1
"""Exit status after any other error in a run of one of these models."""

_HEAD_START: Final = 5.0
"""Seconds that the other processes of a run leave to the first one: a launcher ends all of them after the first exit,
and one message is enough."""


def install() -> None:
    """Wraps lmms-eval's command line, if that is what imports the models; does nothing in other programs."""
    module = sys.modules.get(MODULE)
    if type(module) is ModuleType:
        module.__class__ = _CommandLine


class _CommandLine(ModuleType):
    """The module `lmms_eval.__main__`: its functions are defined after it has imported the models."""

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        return _with_status(self, value) if name == "cli_evaluate" else value


def _with_status(module: Any, cli_evaluate: Callable[..., None]) -> Callable[..., None]:
    """Returns `cli_evaluate` with checked runs; it exits with a status if one of them failed."""

    @functools.wraps(cli_evaluate)
    def evaluate(*arguments: Any, **named: Any) -> None:
        runs = _Runs(module.cli_evaluate_single)
        module.cli_evaluate_single = runs
        try:
            cli_evaluate(*arguments, **named)
        finally:
            module.cli_evaluate_single = runs.evaluate
        if runs.status:
            sys.exit(runs.status)

    return evaluate


class _Runs:
    """Evaluates the runs of a command line; there are several in a file that `--config` names.

    Args:
        evaluate: lmms-eval's function for one run.

    Attributes:
        status: The exit status after the runs so far.
    """

    def __init__(self, evaluate: Callable[[Namespace], Any]) -> None:
        self.evaluate = evaluate
        self.status = 0

    def __call__(self, run: Namespace) -> Any:
        """Returns results and samples, both None if the run failed with an AtomThinkError."""
        try:
            _check(run)
            return self.evaluate(run)
        except AtomThinkError as error:
            if run.verbosity == "DEBUG":
                traceback.print_exc()
            self._refuse(error)
            return None, None
        except Exception as error:
            if run.model not in CLASSES:
                raise
            if run.num_fewshot and getattr(error, "name", None) == "sampler":
                self._refuse(
                    f"`--num_fewshot {run.num_fewshot}`: a task of `{run.tasks}` has no examples, leave it out"
                )
                return None, None
            self.status = max(self.status, FAILED)
            raise

    def _refuse(self, reason: object) -> None:
        """Prints the reason; ends this process if there are others, which would wait for it for ever."""
        self.status = REFUSED
        if int(os.environ.get("RANK", "0")):
            time.sleep(_HEAD_START)
        print(f"atomthink: {reason}", file=sys.stderr, flush=True)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            sys.exit(REFUSED)


def _check(run: Namespace) -> None:
    """Raises AtomThinkError if an argument of the model or of its generation cannot be used; loads nothing."""
    if run.model not in CLASSES:
        return
    from atomthink_plugin.model_adapters.lmms_requests import read_gen_kwargs

    model_class(run.model).check(run.model_args or "", {"batch_size": run.batch_size, "device": run.device})
    read_gen_kwargs(run.gen_kwargs or "")
