"""Types of options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter, Token
from cyclopts.validators import Number


def _whole(_: Any, tokens: Sequence[Token]) -> int:
    """Reads a whole number; cyclopts alone would round 3.5."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f'"{tokens[0].value}" is not a whole number') from None


Whole = Annotated[int, Parameter(converter=_whole)]
Count = Annotated[Whole, Parameter(validator=Number(gte=1))]
"""A whole number from 1."""

CountFrom0 = Annotated[Whole, Parameter(validator=Number(gte=0))]

Words = Annotated[tuple[str, ...], Parameter(consume_multiple=True)]
"""Several values after one flag: `--modes quick slow`."""

Pairs = Annotated[str, Parameter(metavar="A=B,...")]
"""Names and values as lmms-eval writes them: `a=1,b=two`."""

ModelArgs = Annotated[Pairs, Parameter(name=("--model-args", "--model_args"))]
"""Arguments of a model; lmms-eval spells the flag with an underscore."""
