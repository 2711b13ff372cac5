"""Users' arguments arrive as strings for functions with typed parameters; this is where they meet."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from atomthink_plugin.api import AtomThinkError


def parameters(factory: Callable[..., Any], prefix: str = "", hidden: Iterable[str] = ()) -> dict[str, str]:
    """Returns what users may pass to `factory`: the name they type, and the parameter it stands for.

    Args:
        factory: A function with annotated parameters.
        prefix: Put before each name, unless the name is the prefix without its underscore: a scorer's
            parameter `tag` is typed `prm_tag`, its parameter `prm` stays `prm`.
        hidden: Parameters that are not the user's.
    """
    names = [name for name in inspect.signature(factory).parameters if name not in hidden]
    return {name if name == prefix.rstrip("_") else prefix + name: name for name in names}


def bind(factory: Callable[..., Any], typed: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Returns keyword arguments for `factory`, converted to the types it declares.

    Args:
        factory: What will be called.
        typed: The user's values by typed name; names that are not in `names` are left alone.
        names: As returned by `parameters`.

    Raises:
        AtomThinkError: A value does not fit its parameter, or a parameter without default is missing.
    """
    hints, signature = get_type_hints(factory, include_extras=True), inspect.signature(factory)
    bound: dict[str, Any] = {}
    for name, parameter in names.items():
        if name in typed:
            bound[parameter] = convert(name, typed[name], hints[parameter])
        elif signature.parameters[parameter].default is inspect.Parameter.empty:
            raise AtomThinkError(f"`{name}=` is missing: {factory.__name__} needs it")
    return bound


def convert(name: str, value: Any, annotation: Any) -> Any:
    """Returns `value` as the annotated type; the harness writes None as the string 'None'.

    Raises:
        AtomThinkError: It is no such value; says what is accepted.
    """
    adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    try:
        return adapter.validate_python(None if value == "None" else value)
    except ValidationError as error:
        raise AtomThinkError(f"`{name}={value}`: {error.errors()[0]['msg']}") from None


def pick(what: str, name: str, options: Mapping[str, Any]) -> Any:
    """Returns the named option.

    Raises:
        AtomThinkError: There is no such option; lists those there are.
    """
    if name not in options:
        raise AtomThinkError(f"`{what}={name}` is unknown{_hint(name, options)}; valid: {', '.join(options)}")
    return options[name]


def reject_unknown(typed: Iterable[str], valid: Iterable[str], elsewhere: Mapping[str, str]) -> None:
    """Raises if an argument is not valid here.

    Args:
        typed: Names the user gave.
        valid: Names that have a meaning in this run.
        elsewhere: Names that would have one in another, and in which (`search=beam`).

    Raises:
        AtomThinkError: Names all unknown arguments at once, and the valid ones.
    """
    valid = list(valid)
    unknown = [name for name in typed if name not in valid]
    if not unknown:
        return
    reasons = [
        f"`{name}` goes with {elsewhere[name]}" if name in elsewhere else f"`{name}`{_hint(name, valid)}"
        for name in unknown
    ]
    raise AtomThinkError(f"unknown argument: {'; '.join(reasons)}. Valid here: {', '.join(sorted(valid))}")


def _hint(name: str, options: Iterable[str]) -> str:
    close = get_close_matches(name, list(options), 1)
    return f" (did you mean `{close[0]}`?)" if close else ""
