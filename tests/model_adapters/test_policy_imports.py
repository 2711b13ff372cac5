"""Policies answer prompts: they know no format, no path and no question, and inference does not know the runtime."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
POLICIES = sorted((ROOT / "model_adapters").glob("*_policy.py"))
LOADERS = {"emova_policy.py", "text_policy.py"}
"""Files that load a model for the policy of another file."""
INFERENCE = sorted((ROOT / "atomthink_plugin" / "inference").rglob("*.py"))


def imports(file: Path) -> set[str]:
    """The modules that a file imports, and the names that it imports from them, as `module.name`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_policies_answer_prompts_alone() -> None:
    assert len(POLICIES) == 6
    unknown = {f"atomthink_plugin.api.{name}" for name in ("Format", "Path", "Question", "SearchTree", "Unit")}
    for file in POLICIES:
        names = imports(file)
        assert "atomthink_plugin.api.Prompt" in names or file.name in LOADERS, file.name
        assert not names & unknown, file.name
        assert not any(name.startswith("atomthink_plugin.formats") for name in names), file.name


def test_inference_knows_neither_the_runtime_nor_the_formats() -> None:
    assert len(INFERENCE) > 10
    rooms = ("runtime", "formats", "searches", "scorers", "model_adapters", "tasks", "training")
    for file in INFERENCE:
        assert not any(name.startswith(f"atomthink_plugin.{room}") for name in imports(file) for room in rooms), file
