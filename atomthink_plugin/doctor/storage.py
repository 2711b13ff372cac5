"""The caches: where they are, what is in them, whether they can be written, and how much space is left."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from atomthink_plugin.doctor.findings import Finding, Problem

_GB: Final = 10**9

_MODEL: Final = 20
"""GB on the disk for a model of 7 billion parameters."""

_RUN: Final = 1
"""GB on the disk for the results, journal and pages of a run."""


def hub_cache() -> Finding:
    """Looks at the folder of downloaded checkpoints and data sets."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(HF_HUB_CACHE)
    models, sets = (len(list(folder.glob(f"{kind}--*"))) for kind in ("models", "datasets"))
    return _place("HF hub cache", folder, f"{models} models, {sets} data sets", "HF_HOME", _MODEL)


def datasets_cache() -> Finding:
    """Looks at the folder of data sets that `datasets` has prepared."""
    from huggingface_hub.constants import HF_HOME

    # The rule of `datasets`, whose import takes seconds.
    folder = Path(os.environ.get("HF_DATASETS_CACHE") or f"{HF_HOME}/datasets").expanduser()
    prepared = sum(one.is_dir() and one.name != "downloads" for one in folder.iterdir()) if folder.is_dir() else 0
    return _place("data sets", folder, f"{prepared} prepared", "HF_DATASETS_CACHE or HF_HOME", _MODEL)


def journals() -> Finding:
    """Looks at the folder of all journals."""
    from atomthink_plugin.runtime.build import cache_folder

    folder = cache_folder() / "journal"
    runs = len(list(folder.glob("*/settings.json")))
    return _place("journals", folder, f"{runs} runs", "XDG_CACHE_HOME", _RUN, broken=True)


def _place(name: str, folder: Path, content: str, variable: str, wanted: int, broken: bool = False) -> Finding:
    """Reports a folder.

    Args:
        name: What the folder is.
        folder: The folder, which may not exist yet.
        content: What is in it.
        variable: The environment variable that moves it.
        wanted: GB that should be free.
        broken: Whether every run needs it.
    """
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    free = shutil.disk_usage(there).free / _GB
    fault = _write_fault(there)
    state = "writable" if fault is None else f"not writable ({fault})"
    shown = _with_tilde(folder)
    problems = []
    if fault is not None:
        problems.append(Problem(f"{shown} cannot be written ({fault}): set {variable} to another folder.", broken))
    elif free < wanted:
        problems.append(
            Problem(f"{shown} has {free:.1f} GB free, and {wanted} may be needed: free some, or set {variable}.")
        )
    return Finding([(name, f"{shown}: {content}, {state}, {free:,.0f} GB free")], problems)


def _write_fault(folder: Path) -> str | None:
    """Tries to write a file, since permissions alone do not tell: a disk may be read-only."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or type(error).__name__


def _with_tilde(folder: Path) -> str:
    home = Path.home()
    return f"~/{folder.relative_to(home)}" if folder.is_relative_to(home) else str(folder)
