"""Saves weights under the names that checkpoints on the hub have, which both vLLM and transformers read.

transformers 5 removed the prefix `vision_model.` from the modules of CLIP and SigLIP. It loads checkpoints with and
without the prefix, but saves models that it built itself without it, and vLLM does not load those.

`python -m atomthink_plugin.training.train.weight_names FOLDER ...` adds the prefix to saved checkpoints.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel
from transformers.conversion_mapping import get_checkpoint_conversion_mapping
from transformers.core_model_loading import PrefixChange

PREFIX: Final = "vision_model"


def hub_names(model: PreTrainedModel, names: Iterable[str]) -> dict[str, str]:
    """Returns the name on the hub of each of a model's weights.

    A model whose code is part of its checkpoint keeps its names.

    Args:
        model: A model; its weights are not read.
        names: Names of its weights, as in its state dict or in a saved file.
    """
    if getattr(model.config, "auto_map", None):
        return {name: name for name in names}
    base = f"{model.base_model_prefix}."
    towers = [re.escape(name.removeprefix(base)) for name, module in model.named_modules() if _cut(module)]
    missing = [re.compile(rf"((?:{re.escape(base)})?{tower}\.)(?!{PREFIX}\.)") for tower in towers]
    return {name: _with_prefix(name, missing) for name in names}


def _cut(module: torch.nn.Module) -> bool:
    """Returns whether transformers removes the prefix from the names of a module's weights when it loads them."""
    known = get_checkpoint_conversion_mapping(type(module).__name__) or ()  # type: ignore[no-untyped-call]
    return any(isinstance(change, PrefixChange) and change.prefix_to_remove == PREFIX for change in known)


def _with_prefix(name: str, missing: Iterable[re.Pattern[str]]) -> str:
    found = next(filter(None, (pattern.match(name) for pattern in missing)), None)
    return name if found is None else f"{found[0]}{PREFIX}.{name[found.end() :]}"


def rename(folder: Path) -> None:
    """Renames the weights of a saved multimodal checkpoint of one file; their values stay as they are."""
    with torch.device("meta"):
        loader: Any = AutoModelForImageTextToText
        model = loader.from_config(AutoConfig.from_pretrained(folder))
    file = folder / "model.safetensors"
    weights = load_file(file)
    names = hub_names(model, weights)
    new = file.with_suffix(".new")
    save_file({names[name]: weight for name, weight in weights.items()}, new, metadata={"format": "pt"})
    new.chmod(file.stat().st_mode)  # safetensors writes files that only their owner may read
    new.replace(file)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        rename(Path(argument))
