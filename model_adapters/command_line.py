"""Changes lmms-eval's command line for runs of these models: early checks and an exit status.

lmms-eval parses all task files before it makes the model, prints a traceback for any error there and exits with 0.
With this module, the arguments of a run are checked before the task files are parsed, an `AtomThinkError` is printed as
one line, and the command exits with a non-zero status if a run failed. Calls from Python do not change.

It can be removed when lmms-eval lets a model check its arguments and exits with a status after a failed run.
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
"""Exit status after an AtomThinkError, the same as of the command `atomthink`."""

FAILED: Final = 1
"""Exit status after any other error in a run of one of these models."""

_HEAD_START: Final = 5.0
"""Seconds that the other processes of a run wait for the first one to print the message.

A launcher ends all of them after the first exit."""


def install() -> None:
    """Wraps lmms-eval's command line if it is running; does nothing in other programs."""
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
    """Evaluates the runs of a command line; `--config` may name a file with several.

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
        """Prints the reason. Ends this process in a distributed run, where the other processes would wait for it."""
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
