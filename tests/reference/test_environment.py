"""The page of environment variables has each one that the source reads, and no other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from atomthink_plugin.tasks.harness_patches import _JUDGE_KEYS
from tests.reference.pages import code, page, section, table

ROOT = Path(__file__).parents[2]
FOLDERS = {"atomthink_plugin": "", "model_adapters": "model_adapters.", "tasks": "tasks.", "training": "training."}
LOCAL = {"name", "variable"}
"""Names of local variables that hold a name: of all variables, for secrets, and of the judge's key."""


def reads(tree: ast.AST) -> Iterator[ast.expr]:
    """Yields what `os.environ.get(X)`, `os.environ[X]` and `os.getenv(X)` are given."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            if ast.unparse(node.func) in ("os.environ.get", "os.getenv", "os.environ.pop", "os.environ.setdefault"):
                yield node.args[0]
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
            yield node.slice


def read_variables() -> set[str]:
    found = set(_JUDGE_KEYS.values())
    for folder, prefix in FOLDERS.items():
        for file in (ROOT / folder).rglob("*.py"):
            for given in reads(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(given, ast.Constant):
                    found.add(str(given.value))
                elif isinstance(given, ast.Name) and given.id not in LOCAL:
                    name = ".".join(file.relative_to(ROOT / folder).with_suffix("").parts)
                    found.add(getattr(import_module(f"atomthink_plugin.{prefix}{name}"), given.id))
    return found


def test_each_variable_that_is_read_is_on_the_page() -> None:
    rows = table(section(page("environment.md"), "## Read by this package"))
    documented = {name for row in rows for name in code(row[0])}
    assert documented == read_variables()
    assert len(documented) > 10


def test_a_read_is_found_however_it_is_written() -> None:
    source = "os.environ.get('A', 1)\nos.environ['B']\nos.getenv('C')\n"
    assert [ast.literal_eval(given) for given in reads(ast.parse(source))] == ["A", "B", "C"]
