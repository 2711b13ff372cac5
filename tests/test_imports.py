"""Which modules import which: no cycles, and arrows between folders that point one way.

Every `import` statement counts, wherever it stands: inside a function, where it only puts the cycle off, and under
`TYPE_CHECKING`, where a reader still needs both modules to understand one.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "atomthink_plugin"
OUTER = ("model_adapters", "tasks", "training")
"""Folders beside the engine, which is the folder `atomthink_plugin`."""

DOORS = {"", "cli", "plugins.defaults"}
"""Modules of the engine that import what is outside: the package itself with its notebook functions, the command line
and the default plugin."""

ROOMS = (
    "doctor",
    "examples",
    "formats",
    "inference",
    "searches",
    "scorers",
    "servers",
    "runtime",
    "plugins",
    "report",
    "rollouts",
    "step_metrics",
)


def _modules() -> dict[str, Path]:
    """The package's modules by their names without the package's own."""
    found = {}
    for top in (PACKAGE, *OUTER):
        for file in (ROOT / top).rglob("*.py"):
            parts = file.relative_to(ROOT).with_suffix("").parts
            parts = parts[1:] if top == PACKAGE else parts
            found[".".join(part for part in parts if part != "__init__")] = file
    return found


MODULES = _modules()


def imports_of(source: str, name: str, is_package: bool = False) -> Iterator[str]:
    """Yields the package's modules that a module's source imports, by their names without the package's own."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (_own(alias.name) for alias in node.names if _is_own(alias.name))
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                parts = [PACKAGE, *filter(None, name.split("."))]
                kept = parts[: len(parts) - node.level + is_package]
                module = ".".join([*kept, *filter(None, [module])])
            if _is_own(module):
                for alias in node.names:
                    inner = _own(f"{module}.{alias.name}")
                    yield inner if inner in MODULES else _own(module)


def _is_own(module: str) -> bool:
    return module == PACKAGE or module.startswith(f"{PACKAGE}.")


def _own(module: str) -> str:
    return module.removeprefix(PACKAGE).removeprefix(".")


GRAPH: Mapping[str, set[str]] = {
    name: set(imports_of(file.read_text(encoding="utf-8"), name, file.stem == "__init__")) - {name}
    for name, file in MODULES.items()
}


def room(module: str) -> str:
    """The folder of a module, empty for modules that stand beside the rooms."""
    first, _, rest = module.partition(".")
    return first if rest or first in (*ROOMS, *OUTER) else ""


def arrows() -> set[tuple[str, str]]:
    """All imports, as pairs of the importing module and the imported one."""
    return {(name, what) for name, imported in GRAPH.items() for what in imported}


def test_every_import_is_of_a_module_that_is_there() -> None:
    assert {what for _, what in arrows()} <= MODULES.keys()
    assert len(arrows()) > 500


@pytest.mark.parametrize(
    "source",
    [
        "import atomthink_plugin.runtime.tree",
        "from atomthink_plugin.runtime import tree",
        "from atomthink_plugin.runtime.tree import QuestionTree",
        "from .runtime import tree",
        "def late():\n    from .runtime.tree import QuestionTree",
        "if TYPE_CHECKING:\n    from atomthink_plugin.runtime.tree import QuestionTree",
    ],
)
def test_an_import_counts_however_it_is_written(source: str) -> None:
    assert list(imports_of(source, "cli")) == ["runtime.tree"]


def test_no_modules_import_each_other() -> None:
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_no_rooms_of_the_engine_import_each_other() -> None:
    rooms: dict[str, set[str]] = defaultdict(set)
    for name, what in arrows():
        if name not in DOORS and room(name) in ROOMS and room(what) in ROOMS and room(name) != room(what):
            rooms[room(name)].add(room(what))
    assert rooms
    try:
        TopologicalSorter(rooms).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_contract_imports_nothing_but_the_redaction_of_secrets() -> None:
    assert GRAPH["api"] == {"redaction"}


MADE_FOR = {("searches.swires", "formats.stages"), ("searches.reason_summarise", "formats.thoughts")}
"""Searches over the units of one format."""


@pytest.mark.parametrize("folder", ["formats", "searches"])
def test_formats_and_searches_know_the_contract_alone(folder: str) -> None:
    known = {"api", "answers", "formats.parts"}  # final answers in texts, and texts in the parts of a message
    found = {(name, what) for name, what in arrows() if room(name) == folder and room(what) != folder}
    assert {(name, what) for name, what in found if what not in known} <= MADE_FOR


def test_the_engine_imports_models_tasks_and_training_through_its_doors_alone() -> None:
    outside = {name for name, what in arrows() if room(what) in OUTER and room(name) not in OUTER}
    assert outside == DOORS


def test_models_and_tasks_do_not_import_each_other() -> None:
    rooms = {(room(name), room(what)) for name, what in arrows()}
    assert not rooms & {("model_adapters", "tasks"), ("tasks", "model_adapters")}
    assert ("model_adapters", "training") not in rooms


def test_tasks_import_training_for_the_chains_and_rollouts_of_the_capability_task_alone() -> None:
    found = {(name, what) for name, what in arrows() if room(name) == "tasks" and room(what) == "training"}
    assert all(name.startswith("tasks.capability.") for name, what in found), found


def test_training_imports_tasks_for_the_figures_of_the_embedded_model_alone() -> None:
    found = {(name, what) for name, what in arrows() if room(name) == "training" and room(what) == "tasks"}
    assert all(name.startswith("training.tiny.") and what.startswith("tasks.demo.") for name, what in found), found


def test_no_module_is_named_like_one_of_the_standard_library() -> None:
    names = {name.rpartition(".")[2] for name in MODULES} - {"__main__"}
    assert names & set(sys.stdlib_module_names) == set()


def _classes() -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for name, file in MODULES.items():
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(name)
    return found


def test_no_two_classes_share_a_name() -> None:
    assert {name: places for name, places in _classes().items() if len(places) > 1} == {}


def test_the_rules_of_the_benchmarks_import_nothing_from_their_package_itself() -> None:
    assert GRAPH["tasks.scoring"] == set()
