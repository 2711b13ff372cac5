"""Installs plugins for tests: modules as entry points of a package, in a folder of its own."""

from __future__ import annotations

import os
from pathlib import Path


def install(folder: Path, **modules: str) -> dict[str, str]:
    """Writes modules into `folder` as entry points of one package.

    Returns:
        The environment in which other processes find them.
    """
    info = folder / "broken-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 0\n")
    (info / "entry_points.txt").write_text(
        "[atomthink_plugin]\n" + "".join(f"{name} = {name}_module\n" for name in modules)
    )
    for name, code in modules.items():
        (folder / f"{name}_module.py").write_text(code)
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH", ""))))}
