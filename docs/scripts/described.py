"""Arguments with their types, defaults and descriptions, read from signatures, docstrings and pydantic models."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import docstring_parser
from pydantic import BaseModel, TypeAdapter
from shown import LONGEST_DEFAULT, default, typed


@dataclass(frozen=True)
class Argument:
    """An argument as a page shows it.

    Attributes:
        name: As a user types it.
        type: In a user's words.
        default: As a user types it; empty for none.
        required: Whether it has to be given.
        text: Its description; empty where the source has none, which fails the build.
        where: What it belongs to, for messages.
        same: Whether the results of a run do not depend on it.
    """

    name: str
    type: str
    default: str
    required: bool
    text: str
    where: str
    same: bool = False


def of_callable(
    factory: Callable[..., Any],
    where: str,
    names: Mapping[str, str] | None = None,
    same: Callable[[str], bool] = lambda name: False,
) -> list[Argument]:
    """Returns the arguments of a function or a class, described in its `Args:` or `Attributes:`.

    Args:
        factory: It has annotated parameters.
        where: What the arguments belong to, for messages.
        names: The name that users type, and the parameter it sets; the parameters themselves if None.
        same: Says of a parameter whether the results of a run do not depend on it.
    """
    declared = inspect.signature(factory, eval_str=True).parameters
    texts = parameter_texts(factory)
    found = []
    for name, parameter in (names or {name: name for name in declared}).items():
        given = declared[parameter].default
        required = given is inspect.Parameter.empty
        found.append(
            Argument(
                name,
                typed(TypeAdapter(declared[parameter].annotation).json_schema()),
                "" if required else default(given),
                required,
                texts.get(parameter, ""),
                where,
                same(parameter),
            )
        )
    return found


def of_model(
    model: type[BaseModel],
    where: str,
    leave_out: Iterable[str] = (),
    same: Callable[[str], bool] = lambda name: False,
) -> list[Argument]:
    """Returns the fields of a pydantic model, described by its attribute docstrings.

    Args:
        model: The model.
        where: What the fields belong to, for messages.
        leave_out: Fields that are described elsewhere.
        same: Says of a field whether the results of a run do not depend on it.
    """
    properties = model.model_json_schema()["properties"]
    return [
        Argument(
            name,
            typed(properties[name]),
            "" if field.is_required() or field.default_factory else default(field.default),
            field.is_required(),
            one_line(field.description or ""),
            where,
            same(name),
        )
        for name, field in model.model_fields.items()
        if name not in leave_out
    ]


def parameter_texts(documented: Any) -> dict[str, str]:
    """Returns the entries of the `Args:` and `Attributes:` of a docstring."""
    parsed = docstring_parser.parse(inspect.getdoc(documented) or "")
    return {entry.arg_name: one_line(entry.description or "") for entry in parsed.params}


def summary(documented: Any) -> str:
    """Returns the text of a docstring up to its first section, as paragraphs."""
    parsed = docstring_parser.parse(inspect.getdoc(documented) or "")
    paragraphs = (parsed.description or "").split("\n\n")
    return "\n\n".join(paragraph if paragraph.startswith("    ") else one_line(paragraph) for paragraph in paragraphs)


def paragraphs(text: str) -> list[str]:
    """Returns the paragraphs of a text, each in one line."""
    return [one_line(paragraph) for paragraph in text.strip().split("\n\n")]


def one_line(text: str) -> str:
    """Returns the text without its line breaks."""
    return re.sub(r"\s*\n\s*", " ", text).strip()


def entries(arguments: Iterable[Argument], prefix: str = "") -> str:
    """Returns arguments as a list in Markdown, each with an anchor.

    Args:
        arguments: The arguments.
        prefix: Put before the name in the anchor, where a page has several arguments of one name.
    """
    return "\n\n".join(_entry(argument, prefix) for argument in arguments)


def _entry(argument: Argument, prefix: str) -> str:
    blocked = len(argument.default) > LONGEST_DEFAULT
    facts = [
        argument.type,
        "required" if argument.required else "",
        f"default `{argument.default}`" if argument.default and not blocked else "",
        "changes no result" if argument.same else "",
    ]
    head = " · ".join([f"**`{argument.name}`**", *filter(None, facts)])
    lines = [f'- <a id="{prefix}{argument.name.lstrip("-")}"></a>{head}', "", f"    {argument.text}"]
    if blocked:
        lines += ["", f"    Default: `{argument.default}`"]
    return "\n".join(lines)


def undescribed(arguments: Iterable[Argument]) -> list[str]:
    """Returns the arguments without a description, and what they belong to."""
    return [f"`{argument.name}` of {argument.where}" for argument in arguments if not argument.text]
