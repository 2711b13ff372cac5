"""The checkpoint that a training is resumed from: the newest one that is complete."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.training.train.recipe import Recipe

log = logging.getLogger(__name__)

STATE: Final = "trainer_state.json"
_RESULTS: Final = ("config.json", "adapter_config.json")

PARTS: Final[Mapping[str, Sequence[str]]] = {
    "weights": ("*.safetensors", "pytorch_model_fsdp*", "global_step*"),
    "optimizer state": ("optimizer*", "global_step*"),
    "learning rate schedule": ("scheduler.pt", "global_step*"),
    "random number state": ("rng_state*.pth",),
}
"""Files of a checkpoint beside the trainer's state: of one process, of FSDP, of DeepSpeed.

The trainer does not complain about a missing optimizer or schedule.
"""


def resume_from(recipe: Recipe) -> str | None:
    """Returns the newest complete checkpoint of an earlier run of this recipe, None to start from the beginning.

    Raises:
        AtomThinkError: `output_dir` holds a training already, and the recipe does not resume it.
    """
    folders = _checkpoints(recipe)
    if recipe.resume_from_checkpoint:
        for folder in folders:
            if (fault := _fault(folder)) is None:
                return str(folder)
            _warn("%s cannot be resumed from: %s", folder, fault)
        if folders:
            _warn("no complete checkpoint in %s: training starts from the beginning", recipe.checkpoints)
        return None
    results = [*(folder / STATE for folder in folders), *(recipe.output_dir / name for name in _RESULTS)]
    if any(file.exists() for file in results):
        raise AtomThinkError(
            f"`output_dir: {recipe.output_dir}` holds a training already: name another folder, delete this one, or "
            "continue from its newest checkpoint with `--resume_from_checkpoint true`"
        )
    return None


def rename_newer(recipe: Recipe, resumed: str | None) -> None:
    """Renames the checkpoints that are newer than the one a training is resumed from.

    The trainer keeps the checkpoints with the highest steps and would delete the ones it writes before those.
    """
    for folder in _checkpoints(recipe):
        if str(folder) == resumed:
            return
        renamed = folder.with_name(f"incomplete-{folder.name}")
        shutil.rmtree(renamed, ignore_errors=True)
        folder.rename(renamed)


def _checkpoints(recipe: Recipe) -> list[Path]:
    """Returns the folders of checkpoints, complete or not, the newest first."""
    found = [folder for folder in recipe.checkpoints.glob("checkpoint-*") if re.search(r"-\d+$", folder.name)]
    return sorted(found, key=_step, reverse=True)


def _step(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])


def _warn(text: str, *values: object) -> None:
    """Writes a warning once, however many processes there are."""
    if not int(os.environ.get("RANK", "0")):
        log.warning(text, *values)


def _fault(folder: Path) -> str | None:
    """Returns why a checkpoint is not complete, or None; its tensors are not read."""
    try:
        state = json.loads((folder / STATE).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        return f"{STATE} cannot be read ({error})"
    if not isinstance(state, dict) or state.get("global_step") != _step(folder):
        return f"{STATE} is of another step"
    for part, patterns in PARTS.items():
        found = [path for pattern in patterns for path in folder.glob(pattern)]
        if not any(path.is_file() or (path.is_dir() and any(path.iterdir())) for path in found):
            return f"it has no {part}"
    torn = next((file for file in sorted(folder.rglob("*")) if file.is_file() and _is_torn(file)), None)
    return None if torn is None else f"{torn.relative_to(folder)} is not complete"


def _is_torn(file: Path) -> bool:
    """Returns whether a file ends early, by the sizes that it states."""
    if file.suffix in (".pt", ".pth", ".bin"):
        return not zipfile.is_zipfile(file)
    if file.suffix == ".json":
        return not _is_whole_json(file)
    if file.suffix == ".distcp":
        return not (file.parent / ".metadata").exists()  # written after all of them
    if file.suffix != ".safetensors":
        return False
    try:
        with safe_open(file, "pt"):
            return False
    except SafetensorError:
        return True


def _is_whole_json(file: Path) -> bool:
    """Returns whether a JSON file can be read; the index of split weights also needs all of its files."""
    try:
        index = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return False
    shards = index.get("weight_map", {}) if isinstance(index, dict) else {}
    if not isinstance(shards, dict):
        return False
    return all(isinstance(shard, str) and (file.parent / shard).is_file() for shard in set(shards.values()))
