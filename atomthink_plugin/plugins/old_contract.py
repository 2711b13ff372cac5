"""Recognises plugins that were written for an earlier contract of this package, and describes what changed."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import fields
from types import ModuleType
from typing import Any, Final

from atomthink_plugin.api import SearchKind

RENAMED: Final[Mapping[str, str]] = {
    f"atomthink_plugin.{old}": f"atomthink_plugin.{new}"
    for old, new in {
        "aggregates": "searches.parts.aggregates",
        "api.Mind": "api.SearchTree",
        "arguments": "plugins.arguments",
        "batch_size": "inference.batch_size",
        "build": "runtime.build",
        "builtins": "plugins.defaults",
        "chat_turns": "servers.chat_turns",
        "checkpoints": "inference.checkpoints",
        "formats.Atomic": "formats.atomic.Atomic",
        "formats.Continue": "formats.continuation.Continue",
        "formats.Cot": "formats.cot.Cot",
        "formats.Direct": "formats.direct.Direct",
        "formats.Format": "api.Format",
        "formats.Prompt": "api.Prompt",
        "formats.SEPARATOR": "formats.steps.SEPARATOR",
        "formats.joined": "inference.message_parts.joined",
        "hookspecs": "plugins.hookspecs",
        "image_input": "inference.image_input",
        "images": "image_memo",
        "inference": "inference.forward_passes",
        "llava_format": "inference.llava_checkpoints",
        "model_adapters.chat_endpoint": "servers.chat_endpoint",
        "model_adapters.decoding": "inference.decoding",
        "model_adapters.forking": "inference.forking",
        "model_adapters.policy_trial": "inference.policy_trial",
        "model_adapters.samples": "inference.text_samples",
        "model_adapters.sampling": "inference.sampling",
        "prefixes": "inference.prefix_cache",
        "prompting": "inference.encoding",
        "registry": "plugins.registry",
        "runtime.loop": "runtime.event_loop",
        "runtime.mind": "runtime.tree",
        "runtime.mind.QuestionMind": "runtime.tree.QuestionTree",
        "runtime.thinker": "runtime.runner",
        "runtime.thinker.Thinker": "runtime.runner.Runner",
        "scorers.chat": "scorers.chat_layout",
        "scorers.served": "scorers.served_prm",
        "scorers.steps": "scorers.scored_step",
        "searches.voting": "searches.parts.voting",
        "server": "servers.openai_client",
        "source": "inference.checkpoint_files",
        "statistics": "accuracy_stats",
        "steps": "formats.steps",
        "task_form": "formats.task_form",
        "trial": "inference.trial",
    }.items()
}
"""Names of the first contract that a plugin may have used, and what they are called now."""

_PROMPTS: Final = "a policy answers a `Prompt` and knows no format"


def explained(error: BaseException) -> str:
    """Describes an error in a plugin's code, and what changed since the contract that the plugin was written for."""
    message = f"{type(error).__name__}: {error}"
    old = next((name for name in _missing(error) if name in RENAMED), None)
    if old is not None:
        return f"it was written for an earlier version: `{old}` is now `{RENAMED[old]}` ({message})"
    if unknown := re.search(r"SearchKind.* unexpected keyword argument '(\w+)'", str(error)):
        names = ", ".join(field.name for field in fields(SearchKind))
        return f"it was written for another version: SearchKind has no field `{unknown[1]}`, only {names} ({message})"
    return message


def outdated_factory(factory: Any) -> str | None:
    """Says what changed if a policy's factory is of an earlier contract, None if it is not."""
    if "format" in inspect.signature(factory).parameters:
        return f"which takes `format`: {_PROMPTS}; remove the parameter"
    return None


def outdated_policy(policy: Any) -> str | None:
    """Says what changed if a policy is of an earlier contract, None if it is not."""
    if not callable(getattr(policy, "propose", None)):
        return "it has no method `propose(prompt, n, sampling)`"
    if "path" in inspect.signature(policy.propose).parameters:
        return f"`propose(path, n, sampling)` is now `propose(prompt, n, sampling)`: {_PROMPTS}"
    return None


def outdated_format(format: Any) -> str | None:
    """Says what changed if a format, or its class, is of an earlier contract, None if it is not."""
    if hasattr(format, "unit"):
        return None
    now = "`unit(path)` says what one reply is, None for one whole reply"
    return f"it has `stepwise`, now {now}" if hasattr(format, "stepwise") else f"it has no method `unit`: {now}"


def _missing(error: BaseException) -> list[str]:
    """Returns the full names that were not found: the name itself, then the module."""
    if isinstance(error, ImportError):
        name = re.match(r"cannot import name '(\w+)'", str(error))
        return [f"{error.name}.{name[1]}", str(error.name)] if name else [str(error.name)]
    if isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        return [f"{error.obj.__name__}.{error.name}", error.obj.__name__]
    return []
