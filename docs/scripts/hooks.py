"""Hooks of `mkdocs build`: one source folder for the pages of the Python API."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = {"atomthink_plugin": "", "model_adapters": "model_adapters", "tasks": "tasks", "training": "training"}
"""Top folders, and where they install within `atomthink_plugin`."""


def on_startup(command: str, dirty: bool) -> None:
    """Lays out the import package for mkdocstrings, which reads the sources and does not import them."""
    package = ROOT / "build" / "docs" / "source" / "atomthink_plugin"
    shutil.rmtree(package, ignore_errors=True)
    for folder, place in FOLDERS.items():
        for file in (ROOT / folder).rglob("*.py"):
            copy = package / place / file.relative_to(ROOT / folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
