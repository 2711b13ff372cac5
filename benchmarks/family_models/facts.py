"""What the builder of a tiny model has to know of one architecture, beyond what it derives from its classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Config = dict[str, Any]
"""A config as a dictionary; the configs of a model's parts are dictionaries in it."""


class Token(str):
    """A value of a config that is the id of this token."""


class Part(str):
    """A value of a config that is the tiny config of this type: a part that the default config leaves out."""


@dataclass(frozen=True)
class Facts:
    """Facts of one architecture.

    Attributes:
        config: Values of the tiny config by dotted names, such as `text_config.head_dim`. They are set after the
            default config was shrunk; `None` is a value as any other, `REMOVED` leaves the name out. A `Token` stands
            for its id, a `Part` for a whole part.
        default: Arguments of the default config, for architectures that have none without.
        tokens: Special tokens of the tokenizer beside those that the processor's source names: name, then text; None
            for those that its source names and its tokenizer must not have.
        placeholder: Text of one image in a prompt.
        image_processor: Arguments of the image processor.
        video_processor: Arguments of the video processor.
        processor: Arguments of the processor.
        parts: Makes further arguments of the processor, such as a second tokenizer.
        finish: Changes the shrunk config where values are not enough.
        template: Chat template; `{image}` in it is the placeholder.
        classes: Names of other classes than those of the auto mappings: `processor`, and its parts `image`,
            `video` and `sound`.
        tokenizer: Further arguments of the tokenizer.
        answers: Questions that plain `generate` must answer for the model to count as built, of those of `measure`.
        unbuilt: Why there is no tiny model.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    default: Mapping[str, Any] = field(default_factory=dict)
    tokens: Mapping[str, str | None] = field(default_factory=dict)
    placeholder: str | None = None
    image_processor: Mapping[str, Any] = field(default_factory=dict)
    video_processor: Mapping[str, Any] = field(default_factory=dict)
    processor: Mapping[str, Any] = field(default_factory=dict)
    parts: Callable[[Any], Mapping[str, Any]] | None = None
    finish: Callable[[Config], None] | None = None
    template: str | None = None
    classes: Mapping[str, str] = field(default_factory=dict)
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    answers: tuple[str, ...] = ("image",)
    unbuilt: str = ""


REMOVED = object()
"""Leaves a name out of a config."""


def put(config: Config, name: str, value: Any) -> None:
    """Sets a value by its dotted name; missing parts are made."""
    *parents, last = name.split(".")
    for parent in parents:
        if not isinstance(config.get(parent), dict):
            config[parent] = {}
        config = config[parent]
    if value is REMOVED:
        config.pop(last, None)
    else:
        config[last] = value
