"""Users' arguments arrive as strings for functions with typed parameters; this is where they meet."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, Final

from pydantic import ConfigDict, ValidationError, create_model

from atomthink_plugin.api import AtomThinkError

NUMBERS_AS_TEXT: Final = ConfigDict(coerce_numbers_to_str=True)
"""lmms-eval makes a number of `revision=12345678`; a parameter that is text gets it as text."""

_WHOLE_NUMBER: Final = re.compile(r"[+-]?\d+")


def read_pairs(option: str, text: str) -> dict[str, Any]:
    """Returns the arguments in `a=1,b=two`, split and converted as lmms-eval does.

    Args:
        option: Where the text was given, for messages: `--model_args`.
        text: What was given.

    Raises:
        AtomThinkError: An argument has no value, or is given twice.
    """
    if text == "":  # without the seconds that importing lmms-eval takes
        return {}
    from lmms_eval import utils

    if not isinstance(text, str):  # lmms-eval's own `--config` files may hold anything
        raise AtomThinkError(f"`{option}: {text}` has to be text: `NAME=VALUE,NAME=VALUE`")
    if (split := getattr(utils, "_smart_comma_split", None)) is None:  # private to lmms-eval, which may rename it
        return dict(utils.simple_parse_args_string(text))
    pairs: dict[str, Any] = {}
    for part in split(text.strip()):
        name, equals, typed = part.partition("=")
        if not equals:
            raise AtomThinkError(f"`{option} {part}`: `{name}` has no value, write `{name}=VALUE`")
        # lmms-eval reads -3 as -3.0, which messages would repeat.
        value = int(typed) if _WHOLE_NUMBER.fullmatch(typed) else utils.handle_arg_string(typed)
        if name in pairs:
            raise AtomThinkError(f"`{option}`: `{name}` is given twice, keep one of them")
        pairs[name] = value
    return pairs


def parameters(factory: Callable[..., Any], prefix: str = "") -> dict[str, str]:
    """Returns what users may pass to `factory`: the name they type, and the parameter it sets.

    Args:
        factory: A function with annotated parameters, or a class whose constructor has them.
        prefix: Put before each name, unless the name is the prefix without its underscore: a scorer's
            parameter `tag` is typed `prm_tag`, its parameter `prm` stays `prm`.
    """
    names = inspect.signature(factory).parameters
    return {name if name == prefix.rstrip("_") else prefix + name: name for name in names}


@contextmanager
def named_as_typed(names: Mapping[str, str], what: str) -> Iterator[None]:
    """Makes the errors of a factory name its arguments as users type them: `judge_pretrained=` for `pretrained=`.

    Args:
        names: As returned by `parameters`.
        what: What the factory makes, for the beginning of the message.

    Raises:
        AtomThinkError: The factory raised one.
    """
    typed = {parameter: name for name, parameter in names.items() if parameter != name}
    try:
        yield
    except AtomThinkError as error:
        if not typed:
            raise
        text = re.sub(r"\b(\w+)(?==)", lambda found: typed.get(found[1], found[1]), str(error))
        raise AtomThinkError(f"{what}: {text}") from error


def bind(factory: Callable[..., Any], typed: Mapping[str, Any], names: Mapping[str, str], what: str) -> dict[str, Any]:
    """Returns keyword arguments for `factory`, converted to the types it declares.

    Args:
        factory: What will be called.
        typed: The user's values by typed name; names that are not in `names` are left alone.
        names: As returned by `parameters`.
        what: What the factory makes, in a user's words: `the model`, `search=beam`.

    Raises:
        AtomThinkError: A value does not fit its parameter, a parameter without default is missing, or the factory
            does not say of which type a parameter is.
    """
    declared = _declared(factory)
    bound: dict[str, Any] = {}
    for name, parameter in names.items():
        annotation, default = declared[parameter].annotation, declared[parameter].default
        if name not in typed:
            if default is inspect.Parameter.empty:
                raise AtomThinkError(f"`{name}=` is missing: {what} needs it")
        elif annotation is inspect.Parameter.empty:
            raise AtomThinkError(
                f"`{name}={typed[name]}` cannot be read: {_name(factory)} does not say of which type its parameter "
                f"`{parameter}` is; annotate it, as in `{parameter}: int`"
            )
        else:
            bound[parameter] = convert(name, typed[name], annotation)
    return bound


def _declared(factory: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Returns the parameters of a function, or of a class's constructor, with their annotations as types."""
    try:
        return inspect.signature(factory, eval_str=True).parameters
    except NameError as error:
        raise AtomThinkError(
            f"{_name(factory)} cannot be given arguments: its annotations name `{error.name}`, which is not there "
            "when it runs; import it outside of TYPE_CHECKING"
        ) from error


def _name(factory: Callable[..., Any]) -> str:
    return getattr(factory, "__name__", repr(factory))


def convert(name: str, value: Any, annotation: Any) -> Any:
    """Returns `value` as the annotated type; the harness writes None as the string 'None'.

    Raises:
        AtomThinkError: It is not such a value; names the accepted ones.
    """
    argument: Any = create_model("Argument", __config__=NUMBERS_AS_TEXT, value=(annotation, ...))
    try:
        return argument(value=None if value == "None" else value).value
    except ValidationError as error:
        reasons = dict.fromkeys(fault["msg"] for fault in error.errors())  # one for each type that would do
        raise AtomThinkError(f"`{name}={value}`: {', or: '.join(reasons)}") from None


def pick(what: str, name: str, options: Mapping[str, Any]) -> Any:
    """Returns the named option.

    Raises:
        AtomThinkError: There is no such option; lists those there are.
    """
    if name not in options:
        raise AtomThinkError(f"`{what}={name}` is unknown{hint(name, options)}; valid: {', '.join(options)}")
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
        f"`{name}` goes with {elsewhere[name]}" if name in elsewhere else f"`{name}`{hint(name, valid)}"
        for name in unknown
    ]
    raise AtomThinkError(f"unknown argument: {'; '.join(reasons)}. Valid here: {', '.join(sorted(valid))}")


def hint(name: str, options: Iterable[str]) -> str:
    """Returns ` (did you mean ...?)` with the option that is most like `name`, or nothing."""
    close = get_close_matches(name, list(options), 1)
    return f" (did you mean `{close[0]}`?)" if close else ""
