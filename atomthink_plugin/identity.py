"""What of a run's arguments changes its results: the journal is keyed by it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from atomthink_plugin.redaction import masked

_HOW: Final = frozenset(
    {
        "batch_size",
        "device",
        "cache_gib",
        "gpu_memory",
        "base_url",
        "connections",
        "data_parallel_size",
        "timeout",
        "max_retries",
        "wait",
        "continuation",
    }
)
"""Arguments that say how or where something is computed, not what. Models on servers have an identity of their own."""

_FILES: Final = ("chat_template", "profile")
"""Arguments that may name a file whose content counts."""

_PATHS: Final = ("pretrained", "prm", *_FILES)
"""Arguments that may name a file or folder relative to the home folder."""


def matters(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of a policy or a scorer that change results.

    A path counts with its home folder filled in, the file of a template or of a PRM's profile by its content. Secrets
    are left out: the identity is written into the journal's folder, and another key changes no result.
    """
    kept = {
        name: os.path.expanduser(value) if name in _PATHS and isinstance(value, str) else value
        for name, value in arguments.items()
        if name not in _HOW
    }
    for name in _FILES:
        file = kept.get(name)
        if file is not None and Path(file).is_file():
            kept[name] = Path(file).read_text(encoding="utf-8")
    found: dict[str, Any] = masked(kept)
    return found
