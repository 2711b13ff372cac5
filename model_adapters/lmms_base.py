"""What the models of lmms-eval in this package have in common, whether they think or score."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
import torch.distributed as dist
from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from loguru import logger

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.inference.checkpoint_files import choose_device
from atomthink_plugin.model_adapters.lmms_requests import Tally, tally, task_of
from atomthink_plugin.plugins.arguments import read_pairs
from atomthink_plugin.redaction import printable


class _ToLoguru(logging.Handler):
    """Forwards log records to loguru, whose output lmms-eval shows."""

    def emit(self, record: logging.LogRecord) -> None:
        """Forwards one record."""
        logger.log(record.levelname, "{}", printable(record.getMessage()))


def show_logs() -> None:
    """Shows the engine's log lines among the harness's. Calling it again changes nothing."""
    engine = logging.getLogger("atomthink_plugin")
    if not any(isinstance(handler, _ToLoguru) for handler in engine.handlers):
        engine.addHandler(_ToLoguru())
        engine.setLevel(logging.INFO)
        engine.propagate = False


class HarnessModel(lmms):  # type: ignore[misc]  # lmms_eval is untyped
    """A chat model that lmms-eval makes and asks."""

    is_simple = False
    model: ClassVar[str]
    """Its name in lmms-eval."""

    def __init__(self) -> None:
        super().__init__()
        show_logs()
        self._tasks: dict[int, Any] = {}

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: Mapping[str, Any] | None = None) -> Self:
        """Makes the model from `--model_args` and, where these leave an argument out, the command line's own options.

        Raises:
            AtomThinkError: As the class does, or an argument is given twice or without a value.
        """
        return cls(**constructor_arguments(arg_string, additional_config or {}))

    @property
    def name(self) -> str:
        """The model's name in journals and in the harness's usage reports."""
        return self.model.removeprefix("atomthink_")

    @property
    def device(self) -> torch.device:
        """Where the harness puts the few numbers it gathers over processes."""
        return choose_device()

    def remember_tasks(self, requests: Sequence[Instance]) -> None:
        """Notes whose replies `require_a_reply` looks at."""
        self._tasks |= {id(task): task for task in map(task_of, requests) if task is not None}

    def require_a_reply(self) -> None:
        """Looks at the replies of all processes. The harness calls `clean` in every process, so all of them raise.

        Raises:
            AtomThinkError: All questions failed; an accuracy of 0 would look like the model's.
        """
        tasks, self._tasks = list(self._tasks.values()), {}
        own = tally(request for task in tasks for request in task.instances)
        run = sum(_of_all_processes(own), Tally())
        if run.failed and run.failed == run.replies:
            raise AtomThinkError(f"all {run.failed} questions failed, so there is no accuracy; first: {run.reason}")

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Not supported: a search has no likelihood."""
        raise NotImplementedError(f"{type(self).__name__} answers generate_until tasks, not loglikelihood ones")

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        """Not supported: the rounds of a task would be nested in the rounds of a search."""
        raise NotImplementedError(f"{type(self).__name__} answers generate_until tasks, not multi-round ones")


def constructor_arguments(arg_string: str, additional_config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `--model_args`, and the command line's own options where these leave an argument out."""
    typed = read_pairs("--model_args", arg_string)
    if "batch_size" in typed:
        typed["batch_size"] = str(typed["batch_size"])  # the int 1 is the harness's default
    return {**{name: value for name, value in additional_config.items() if value is not None}, **typed}


def _of_all_processes(own: Tally) -> list[Tally]:
    if not (dist.is_available() and dist.is_initialized()):
        return [own]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, own)
    return found
