"""Users' values meet the factories of others, which may be functions, classes or not quite right."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from lmms_eval.utils import simple_parse_args_string

from atomthink_plugin.api import AtomThinkError, Count, QuestionError
from atomthink_plugin.plugins.arguments import bind, convert, named_as_typed, parameters, read_pairs

if TYPE_CHECKING:
    from fractions import Fraction


class Window:
    """A factory that is a class."""

    size: str

    def __init__(self, size: Count = 4, *, name: str | None = None) -> None:
        self.given = size, name


def window(size: Count, name: str | None = None) -> tuple[int, str | None]:
    """A factory that is a function."""
    return size, name


@pytest.mark.parametrize("factory", [Window, window, partial(window, name="inner")])
def test_factories_of_every_sort_get_what_they_declare(factory: Any) -> None:
    bound = bind(factory, {"prm_size": "3", "prm_name": 12}, parameters(factory, "prm_"), "a window")
    assert bound == {"size": 3, "name": "12"}
    with pytest.raises(AtomThinkError, match="`prm_size=0`"):
        bind(factory, {"prm_size": 0}, parameters(factory, "prm_"), "a window")


def test_a_missing_argument_is_named_with_what_needs_it() -> None:
    class Needy:
        def __init__(self, size: int) -> None: ...

    with pytest.raises(AtomThinkError, match=r"`size=`.*search=needy"):
        bind(Needy, {}, parameters(Needy), "search=needy")


def test_a_parameter_without_a_type_is_named_with_its_factory() -> None:
    def careless(size=4):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
        return size

    class Careless:
        def __init__(self, size=4) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
            ...

    for factory in (careless, Careless):
        assert bind(factory, {}, parameters(factory), "it") == {}
        with pytest.raises(AtomThinkError, match=f"{factory.__name__}.*`size`"):
            bind(factory, {"size": "3"}, parameters(factory), "it")


def test_a_type_that_is_not_there_at_run_time_is_named_with_its_factory() -> None:
    def early(part: Fraction) -> None: ...

    with pytest.raises(AtomThinkError, match=r"early.*`Fraction`"):
        bind(early, {"part": "1/2"}, parameters(early), "it")


@dataclass(frozen=True)
class Pair:
    """A type with a schema of its own."""

    left: int
    right: int


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (1, str, "1"),
        (12345678, str | None, "12345678"),
        (0.5, str, "0.5"),
        ("None", str | None, None),
        (1, int | str, 1),
        ("1", int, 1),
        ({"left": "1", "right": 2}, Pair, Pair(1, 2)),
    ],
)
def test_values_become_what_is_declared(value: Any, annotation: Any, expected: Any) -> None:
    assert convert("name", value, annotation) == expected


@pytest.mark.parametrize("annotation", [str, str | None])
def test_true_and_false_are_no_text(annotation: Any) -> None:
    with pytest.raises(AtomThinkError, match="`name=True`"):
        convert("name", True, annotation)


def test_pairs_are_read_as_lmms_eval_reads_them() -> None:
    text = """name=one, n=3,temperature=0.5,on=True,base_args={"a": 1, "b": "n=4,n=5"},equals=a=b,"""
    assert read_pairs("--model_args", text) == simple_parse_args_string(text)
    assert read_pairs("--model_args", "") == {}


def test_negative_whole_numbers_stay_whole() -> None:
    assert repr(read_pairs("--args", "n=-3,x=-0.5")) == "{'n': -3, 'x': -0.5}"


@pytest.mark.parametrize("text", ["n=1,n=1", "n", "a=1,n,b=2", "n=1,x={},n=2"])
def test_pairs_that_cannot_be_meant_are_named(text: str) -> None:
    with pytest.raises(AtomThinkError, match=r"`--args.*`n`"):
        read_pairs("--args", text)


def test_an_error_of_a_factory_names_its_arguments_as_they_are_typed() -> None:
    def policy(pretrained: str, device: str = "cpu") -> None:
        raise QuestionError(
            f"pretrained={pretrained!r}: pass `device=` or `prm_device=`; pretrained models, format=atomic"
        )

    with pytest.raises(AtomThinkError) as caught, named_as_typed(parameters(policy, "judge_"), "the judge"):
        policy("a")
    said = str(caught.value)
    assert said.startswith("the judge: judge_pretrained='a': pass `judge_device=` or `prm_device=`;")
    assert said.endswith("; pretrained models, format=atomic")
    with pytest.raises(QuestionError, match=r"^pretrained='a'"), named_as_typed(parameters(policy), "the model"):
        policy("a")
