"""A model that lmms-eval has registered, made and asked as the harness itself does it.

The harness's models differ in what they take for granted. Requests are therefore made alike: all requests of a call
share their generation arguments and one function from document to prompt, and no document is ever asked for twice
under the same name, since some models keep replies by it.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
import os
import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from atomthink_plugin.api import AtomThinkError, Message, QuestionError
from atomthink_plugin.inference.message_parts import joined
from atomthink_plugin.plugins.arguments import pick
from atomthink_plugin.redaction import remember

TASK: Final = "atomthink"
"""The documents that the base sees: its own, not those of the run's tasks."""

_BAR: Final = "tqdm"
_REPORTS: Final = frozenset({"log_metrics", "log_usage"})
"""Per-call progress bars and statistics of a base, which are silenced; the run reports all calls once."""

_FAILED: Final = "[LMMS_EVAL_"
"""Begins the replies in which the harness's API models say that they got none."""

Conversation = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class BaseReply:
    """What the base replied.

    Attributes:
        text: The reply.
        prompt_tokens: As the base counts them, None where it does not.
        tokens: Of the reply, None where the base does not count them.
    """

    text: str
    prompt_tokens: int | None
    tokens: int | None


class RegisteredBase:
    """One loaded model of lmms-eval's.

    Args:
        name: What the harness calls it.
        model: The model.
    """

    def __init__(self, name: str, model: Any) -> None:
        self.name = name
        self.model = model
        self.simple = bool(model.is_simple)
        self._ids = itertools.count()
        self._split = uuid.uuid4().hex  # another one in every run: some models keep their replies in a file
        # The evaluator gives rank and world size to the outer model only.
        if (processes := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
            model._rank, model._world_size = int(os.environ.get("RANK", "0")), processes
        _hush(model)

    def ask(self, conversations: Sequence[Conversation], arguments: Mapping[str, Any]) -> list[BaseReply]:
        """Asks all conversations in one call of the model's `generate_until`.

        Args:
            conversations: The turns of each; the last is the user's.
            arguments: Generation arguments of all of them, by the harness's names.

        Raises:
            QuestionError: A conversation does not fit the model, or the model reports a failed request.
        """
        docs = {next(self._ids): conversation for conversation in conversations}
        requests = [self._request(at, conversation, dict(arguments)) for at, conversation in docs.items()]
        self.model.task_dict = {TASK: {self._split: docs}}
        outputs = self.model.generate_until(requests)
        if len(outputs) != len(requests):
            raise QuestionError(f"`base={self.name}` gave {len(outputs)} replies to {len(requests)} requests")
        return [self._reply(output) for output in outputs]

    def _request(self, doc_id: int, conversation: Conversation, arguments: dict[str, Any]) -> Any:
        from lmms_eval.api.instance import Instance

        place = (doc_id, TASK, self._split)
        if self.simple:
            content: tuple[Any, ...] = (plain_text(conversation), arguments, images_of)
        else:
            text = "\n".join(part for turn in conversation for part in turn.parts if isinstance(part, str))
            content = (text, messages_of, arguments)
        metadata = {"task": TASK, "doc_id": doc_id, "repeats": 1}
        return Instance("generate_until", (*content, *place), idx=0, metadata=metadata)

    def _reply(self, output: Any) -> BaseReply:
        from lmms_eval.api.instance import unwrap_generation_output

        text, counts = unwrap_generation_output(output)
        if text.startswith(_FAILED):
            raise QuestionError(f"`base={self.name}` failed: {text}")
        if counts is None:
            return BaseReply(text, None, None)
        return BaseReply(text, counts.input_tokens, counts.output_tokens)


def messages_of(conversation: Conversation) -> list[dict[str, Any]]:
    """Returns a conversation as chat models get it from a task; a new one each time, since they change it."""
    return [{"role": turn.role, "content": [_content(part) for part in joined(turn.parts)]} for turn in conversation]


def _content(part: Any) -> dict[str, Any]:
    return {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "url": part}


def images_of(conversation: Conversation) -> list[Any]:
    """Returns all images, as simple models get them from a task."""
    return [part for turn in conversation for part in turn.parts if not isinstance(part, str)]


def plain_text(conversation: Conversation) -> str:
    """Returns all text, as simple models get it from a task: they put the images before it.

    Raises:
        QuestionError: It holds turns of the assistant, which one text cannot tell from the user's.
    """
    if any(turn.role == "assistant" for turn in conversation):
        raise QuestionError("it has turns of the assistant, which a simple model of lmms-eval cannot be given")
    turns = ("\n".join(part for part in joined(turn.parts) if isinstance(part, str)) for turn in conversation)
    return "\n\n".join(text for text in turns if text)


def seed_all(seeds: Sequence[int]) -> None:
    """Seeds the generators that models draw from with a digest of `seeds`, in their order."""
    digest = hashlib.blake2b(b"".join(seed.to_bytes(8, "big") for seed in seeds), digest_size=4).digest()
    seed = int.from_bytes(digest, "big")
    random.seed(seed)
    np.random.seed(seed)  # the generator that models share
    torch.manual_seed(seed)


def load_base(name: str, arguments: Mapping[str, Any]) -> RegisteredBase:
    """Makes the registered model `name` with its own arguments.

    Raises:
        AtomThinkError: There is no such model, it is of this package, or it cannot be made.
    """
    remember(arguments)
    model_class = _class(name)
    try:
        model = model_class(**arguments)
    except Exception as error:  # the models' own code: assertions, missing packages, files, devices
        typed = ", ".join(f"{key}={value}" for key, value in arguments.items())
        raise AtomThinkError(
            f"`base={name}` cannot be made with {typed} ({_first_line(error)}): {_advice(error)}"
        ) from error
    return RegisteredBase(name, model)


def _class(name: str) -> Callable[..., Any]:
    from lmms_eval import models

    known = models.list_available_models(include_aliases=True)
    pick("base", name, dict.fromkeys(each for each in known if each == name or not each.startswith("atomthink_")))
    try:
        model_class: Callable[..., Any] = models.get_model(name)
    except Exception as error:
        raise AtomThinkError(f"`base={name}` cannot be imported ({_first_line(error)}): {_advice(error)}") from error
    if getattr(model_class, "thinks", False):
        raise AtomThinkError(f"`base={name}` thinks already: use --model {name}, or name a model of lmms-eval's own")
    return model_class


def _advice(error: Exception) -> str:
    if isinstance(error, ImportError):
        return "install the package it needs"
    if isinstance(error, OSError):
        return (
            "where the model hub cannot be reached, name a folder that has all its files, with `pretrained=FOLDER` or "
            "in the file that `config=FILE.yaml` names, as `base_args: {pretrained: FOLDER}`"
        )
    return (
        "its own arguments go into the file that `config=FILE.yaml` names, as `base_args: {device_map: cpu}`; "
        "without a GPU also pass `device=cpu`"
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _hush(model: Any) -> None:
    """Silences the reports where the model's `generate_until` finds them: it is called for every few steps."""
    names = inspect.unwrap(type(model).generate_until).__globals__
    for name in _REPORTS & names.keys():
        names[name] = _nothing
    bar = names.get(_BAR)
    if isinstance(bar, type) and bar.__module__ != __name__:
        names[_BAR] = _quiet(bar)


def _nothing(*args: Any, **kwargs: Any) -> None:
    """Takes the place of a report."""


def _quiet(bar: type[Any]) -> type[Any]:
    """The same progress bar, never drawn."""

    def start(self: Any, *args: Any, **kwargs: Any) -> None:
        bar.__init__(self, *args, **{**kwargs, "disable": True})

    return type(bar.__name__, (bar,), {"__init__": start, "__module__": __name__})
