"""Types and defaults as a user types them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import yaml

LONGEST_DEFAULT: Final = 48
"""Characters of a default that is shown in its line. Longer ones are shown in a block of their own."""

_NAMES: Final[Mapping[str, str]] = {
    "string": "text",
    "boolean": "`true` | `false`",
    "object": "mapping",
    "integer": "whole number",
    "number": "number",
}


def typed(schema: Mapping[str, Any]) -> str:
    """Returns the type that a JSON schema describes, in a user's words.

    Example:
        >>> typed({"type": "integer", "minimum": 1}), typed({"enum": ["pool", "first_final"]})
        ('whole number from 1', '`pool` | `first_final`')
    """
    if "$ref" in schema:
        return "mapping"
    if "anyOf" in schema:
        shown = dict.fromkeys(typed(one) for one in schema["anyOf"] if one.get("type") != "null")
        return " or ".join(shown)
    if "enum" in schema or "const" in schema:
        return choices(schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return _list(schema)
    if schema.get("format") == "path":
        return "path"
    if schema.get("contentMediaType") == "application/json":
        return "JSON"
    name = _NAMES[schema["type"]] if "type" in schema else "any value"
    return f"{name} {_range(schema)}".rstrip()


def choices(values: Iterable[object]) -> str:
    """Returns the values of which one is typed."""
    return " | ".join(f"`{value}`" for value in values)


def _list(schema: Mapping[str, Any]) -> str:
    item = typed(schema.get("items") or {})
    return f"list of {item}" if item == "text" else f"list of {item}s"


def _range(schema: Mapping[str, Any]) -> str:
    least, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    if schema.get("type") == "integer" and above is not None:
        least, above = above + 1, None
    bounds = [
        "" if least is None else f"from {_number(least)}",
        "" if above is None else f"above {_number(above)}",
        "" if "maximum" not in schema else f"to {_number(schema['maximum'])}",
        "" if "exclusiveMaximum" not in schema else f"below {_number(schema['exclusiveMaximum'])}",
    ]
    return " ".join(filter(None, bounds)).replace("above 0 to", "above 0 up to")


def default(value: Any) -> str:
    """Returns a default value as a user types it; empty for none."""
    if value is None or value in ({}, (), []):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return str(yaml.safe_dump(list(value), default_flow_style=True)).strip()
    if isinstance(value, float):
        return _number(value)
    return str(value)


def _number(value: float) -> str:
    """Returns a number without an empty fraction: 1 for 1.0, 2e-5 for 2e-05."""
    return f"{value:g}".replace("e-0", "e-") if isinstance(value, float) else str(value)
