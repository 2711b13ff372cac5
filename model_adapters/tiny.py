"""The embedded model: a small LLaVA policy and its process reward model, made by `training/tiny`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

WEIGHTS: Final = Path(__file__).parent / "weights"

TINY_ARGUMENTS: Final[Mapping[str, Any]] = {
    "pretrained": str(WEIGHTS / "policy"),
    "prm": str(WEIGHTS / "prm"),
    "concurrency": 128,
    "step_tokens": 48,
    "max_new_tokens": 512,
    "max_steps": 16,
}
"""Arguments of a run with the embedded model, where the user gives none."""
