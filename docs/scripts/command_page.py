"""The page of the commands, from their signatures and docstrings by cyclopts."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any, Final

import docstring_parser
from cyclopts import App
from cyclopts.argument import Argument as Option
from cyclopts.validators import Number
from described import Argument, entries, one_line
from pydantic import TypeAdapter
from shown import default, typed

from atomthink_plugin.cli import app

_BLOCK: Final = re.compile(r"(?:^    .*\n?)+", re.MULTILINE)
"""Lines of a docstring that are typed."""


def commands() -> dict[str, App]:
    """Returns all commands that do something, by the words that a user types."""
    return dict(_commands(app, "atomthink"))


def _commands(parent: App, typed_before: str) -> Iterator[tuple[str, App]]:
    for name in parent:
        if name.startswith("-"):
            continue
        command, words = parent[name], f"{typed_before} {name}"
        if command.default_command is not None:
            yield words, command
        yield from _commands(command, words)


def command_arguments() -> dict[str, list[Argument]]:
    """Returns the arguments and options of each command."""
    return {words: [_argument(option, words) for option in _options(command)] for words, command in commands().items()}


def _options(command: App) -> list[Option]:
    found = command.assemble_argument_collection(default_parameter=app.default_parameter, parse_docstring=True)
    return [option for option in found if option.parse and not option.children and option.parameter.show is not False]


def _argument(option: Option, words: str) -> Argument:
    given = option.field_info.default
    missing = given is inspect.Parameter.empty
    return Argument(
        _name(option),
        _type(option),
        "" if missing or given in ("", False) else _default(given),
        option.required,
        one_line(str(option.parameter.help or "")),
        f"`{words}`",
    )


def _default(given: object) -> str:
    return " ".join(map(str, given)) if isinstance(given, tuple) else default(given)


def _name(option: Option) -> str:
    if option.field_info.kind is inspect.Parameter.VAR_KEYWORD:
        return "--KEY"
    return next(name for name in option.names if name not in option.negatives)


def _type(option: Option) -> str:
    if option.field_info.kind is inspect.Parameter.VAR_KEYWORD:
        return "text"
    if option.parameter.metavar:  # pairs of names and values
        return f"`{option.parameter.metavar}`"
    schema: dict[str, Any] = TypeAdapter(option.hint).json_schema()
    for validator in option.parameter.validator or ():  # type: ignore[union-attr]
        if isinstance(validator, Number):
            _bound(schema, validator)
    if schema.get("type") == "array":
        return f"one or more: {typed(schema['items'])}"
    shown = typed(schema)
    return "switch" if schema.get("type") == "boolean" else shown


def _bound(schema: dict[str, Any], validator: Number) -> None:
    for one in schema.get("anyOf", [schema]):
        bounds = {
            "minimum": validator.gte,
            "maximum": validator.lte,
            "exclusiveMinimum": validator.gt,
            "exclusiveMaximum": validator.lt,
        }
        if one.get("type") in ("integer", "number"):
            one.update({name: value for name, value in bounds.items() if value is not None})


def commands_page() -> str:
    """Returns the page of all commands."""
    return "\n\n".join(
        [
            "# Commands",
            "Every command of `atomthink`, with its arguments, options and examples. The same text is in "
            "`atomthink COMMAND --help`.",
            "Evaluations run through `lmms-eval`; its arguments for these models are on the page "
            "[Arguments](arguments.md). Options are written `--name value`; a switch is written without a value.",
            str(app.help_epilogue),
            _overview(),
            *(part for words, command in commands().items() for part in _command(words, command)),
        ]
    )


def _overview() -> str:
    rows = ["| command | |", "|---|---|"]
    for words, command in commands().items():
        rows.append(f"| [`{words}`](#{_anchor(words)}) | {_parsed(command).short_description} |")
    return "\n".join(rows)


def _anchor(words: str) -> str:
    return words.replace(" ", "-")


def _parsed(command: App) -> docstring_parser.Docstring:
    return docstring_parser.parse(inspect.getdoc(command.default_command) or "")


def _command(words: str, command: App) -> Iterator[str]:
    yield f"## `{words}`"
    options = _options(command)
    arguments = [_argument(option, words) for option in options]
    yield f"```text\n{_usage(words, arguments)}\n```"
    for paragraph in (_parsed(command).description or "").split("\n\n"):
        yield _typed(paragraph) if _BLOCK.fullmatch(paragraph) else one_line(paragraph)
    groups: dict[str, list[Argument]] = {}
    for option, argument in zip(options, arguments, strict=True):
        groups.setdefault(_group(option), []).append(argument)
    for group, members in groups.items():
        yield f"**{group}**"
        yield entries(members, f"{_anchor(words)}-")


def _typed(block: str) -> str:
    return f"```bash\n{inspect.cleandoc(block)}\n```"


def _usage(words: str, arguments: list[Argument]) -> str:
    parts = [words]
    for one in arguments:
        if not one.name.startswith("--"):
            name = f"{one.name}..." if one.type.startswith("one or more") else one.name
            parts.append(name if one.required else f"[{name}]")
        elif one.required:
            parts.append(f"{one.name} {'PATH' if one.type == 'path' else 'VALUE'}")
    if any(one.name.startswith("--") and not one.required for one in arguments):
        parts.append("[OPTIONS]")
    return " ".join(parts)


def _group(option: Option) -> str:
    """Returns the heading that cyclopts shows the option under."""
    names = [group.name for group in option.parameter.group or () if group.name]  # type: ignore[union-attr]
    return {"Parameters": "Options", "Threshold": "Options"}.get(names[0], names[0]) if names else "Options"
