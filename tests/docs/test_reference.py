"""The generated pages of the reference: complete, up to date, and true about what changes results."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, TypeAdapter

from atomthink_plugin.api import AtomThinkError, Message, Question
from atomthink_plugin.config import RunArguments, plan
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.formats.direct import Direct
from atomthink_plugin.model_adapters.emova_policy import emova_policy
from atomthink_plugin.model_adapters.transformers_policy import transformers_policy
from atomthink_plugin.scorers.prm_head import prm_head
from atomthink_plugin.searches.beam import beam
from atomthink_plugin.tasks.cli import demo
from atomthink_plugin.training.train.recipe import DataFile, PrmRecipe, Recipe

SCRIPTS = Path(__file__).parents[2] / "docs" / "scripts"


@pytest.fixture(scope="module")
def reference() -> Any:
    sys.path.insert(0, str(SCRIPTS))
    yield importlib.import_module("reference")
    sys.path.remove(str(SCRIPTS))


def test_committed_pages_are_complete_and_up_to_date(reference: Any) -> None:
    assert reference.faults() == []


def test_a_page_that_differs_from_the_source_is_a_fault(reference: Any, tmp_path: Path) -> None:
    reference.write(tmp_path)
    assert reference.faults(tmp_path) == []
    page = tmp_path / "arguments.md"
    page.write_text(page.read_text().replace("default `2048`", "default `1024`", 1))
    (tmp_path / "formats.md").unlink()
    found = reference.faults(tmp_path)
    assert [fault.split()[0] for fault in found] == ["docs/reference/arguments.md", "docs/reference/formats.md"]


def test_a_parameter_or_a_field_without_a_description_is_a_fault(
    reference: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = {
        "`pretrained` of the policy transformers": transformers_policy,
        "`prm_separator` of the scorer prm_head": prm_head,
        "`candidates` of the search beam": beam,
        "`format_instruction` of the format continue": Continue,
        "`--limit` of `atomthink demo`": demo,
    }
    fields: dict[str, tuple[type[BaseModel], str]] = {
        "`seed` of a run": (RunArguments, "seed"),
        "`freeze` of a recipe": (Recipe, "freeze"),
        "`step_tag` of a recipe of `atomthink train prm`": (PrmRecipe, "step_tag"),
        "`weight` of a data file of a recipe": (DataFile, "weight"),
    }
    for documented in parameters.values():
        monkeypatch.setattr(documented, "__doc__", "Does something.")
    for model, field in fields.values():
        monkeypatch.setattr(model.model_fields[field], "description", None)
    faults = reference.faults()
    for argument in (*parameters, *fields):
        assert any(fault.startswith(argument) for fault in faults), argument


def test_what_a_user_can_name_needs_a_docstring(reference: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    documented = {"the policy emova": emova_policy, "the format direct": Direct, "`atomthink demo`": demo}
    for one in documented.values():
        monkeypatch.setattr(one, "__doc__", None)
    faults = reference.faults()
    for name in documented:
        assert any(fault.startswith(f"{name} has no description") for fault in faults), name


def test_everything_that_can_be_typed_has_an_anchor(reference: Any) -> None:
    pages = "".join(reference.text(page) for page in reference.PAGES.values())
    for argument in reference.all_arguments():
        assert f'{argument.name.lstrip("-")}"></a>**`{argument.name}`**' in pages


BASE = {"pretrained": "ORG/MODEL", "thinking": "slow", "search": "beam", "scorer": "prm_token", "prm": "ORG/PRM"}

CHANGED: Mapping[str, Mapping[str, Any]] = {
    "thinking": {"thinking": "quick", "search": None, "scorer": None, "prm": None},
    "search": {"search": "greedy"},
    "format": {"format": "atomic"},
    "prm": {"prm": "ORG/OTHER"},
    "scorer": {"scorer": "prm_head"},
    "temperature": {"temperature": 0.3},
    "top_p": {"top_p": 0.9},
    "top_k": {"top_k": 5},
    "max_new_tokens": {"max_new_tokens": 7},
    "step_tokens": {"step_tokens": 7},
    "max_steps": {"max_steps": 7},
    "retries": {"retries": 7},
    "budget_calls": {"budget_calls": "None"},
    "budget_tokens": {"budget_tokens": 7},
    "budget_seconds": {"budget_seconds": 7},
    "seed": {"seed": 7},
    "concurrency": {"concurrency": 7},
    "on_error": {"on_error": "raise"},
    "journal": {"journal": "off"},
}
"""Other values of all arguments but those that `plan` does not read: see the next test."""


def test_the_page_says_which_arguments_change_no_result(reference: Any) -> None:
    first = plan("transformers", BASE).identity
    same = {name for name, typed in CHANGED.items() if plan("transformers", {**BASE, **typed}).identity == first}
    assert {*CHANGED, "policy", "config", "max_pixels"} == set(RunArguments.model_fields)
    assert plan("openai", BASE).identity != first
    shown = {argument.name for argument in reference.run_pages.run_arguments() if argument.same}
    assert shown == same | {"config"}


def test_the_pixels_of_an_image_are_part_of_a_question() -> None:
    from PIL import Image

    large, small = (Question("q", (Message("user", (Image.new("RGB", size), "?")),)) for size in ((4, 4), (2, 2)))
    assert large.key != small.key


@pytest.mark.parametrize(
    ("annotation", "shown"),
    [
        (Literal["direct", "cot"], "`direct` | `cot`"),
        (Annotated[int, Ge(1)], "whole number from 1"),
        (Annotated[int, Gt(0)] | None, "whole number from 1"),
        (Annotated[float, Gt(0), Le(1)], "number above 0 up to 1"),
        (Annotated[float, Ge(0)], "number from 0"),
        (bool, "`true` | `false`"),
        (Path, "path"),
        (tuple[str, ...], "list of text"),
        (Annotated[int, Ge(1)] | Literal["auto"], "whole number from 1 or `auto`"),
        (dict[str, Any] | None, "mapping"),
    ],
)
def test_types_are_shown_as_a_user_types_them(reference: Any, annotation: Any, shown: str) -> None:
    typed = importlib.import_module("shown").typed
    assert typed(TypeAdapter(annotation).json_schema()) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(None, ""), (True, "true"), (1.0, "1"), (2e-5, "2e-5"), (("a", "b"), "[a, b]"), (30, "30")]
)
def test_defaults_are_shown_as_a_user_types_them(reference: Any, value: Any, shown: str) -> None:
    assert importlib.import_module("shown").default(value) == shown


def test_a_recipe_key_of_one_training_replaces_the_shared_one(reference: Any) -> None:
    keys = {kind: {one.name: one for one in own} for kind, own in reference.recipe_page.recipe_keys().items()}
    assert keys["shared"]["learning_rate"].default == "2e-5"
    assert keys["atomthink train dpo"]["learning_rate"].default == "5e-7"
    assert "learning_rate" not in keys["atomthink train policy"]


def test_arguments_are_refused_that_no_page_shows(reference: Any) -> None:
    names = {argument.name for argument in reference.all_arguments()}
    with pytest.raises(AtomThinkError) as refused:
        plan("transformers", {**BASE, "no_such": 1})
    valid = str(refused.value).split("Valid here: ")[1].split(", ")
    assert len(valid) > 30
    assert {"policy", "config"} <= set(valid)
    assert set(valid) <= names


def test_the_contract_is_documented_as_a_whole() -> None:
    import atomthink_plugin.api as api

    page = (SCRIPTS.parent / "reference" / "api" / "contract.md").read_text()
    source = ast.parse(Path(api.__file__).read_text())
    named = [node.name for node in source.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    assigned = [
        node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
        for node in source.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
    ]
    public = {*named, *(target.id for target in assigned if isinstance(target, ast.Name))}
    assert {
        line.removeprefix("::: atomthink_plugin.api.") for line in page.splitlines() if line[:4] == "::: "
    } == public
