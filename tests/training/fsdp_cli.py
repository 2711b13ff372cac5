"""The command line under FSDP, as training/recipes/accelerate/fsdp.yaml has it, in processes without a GPU.

Accelerate shards nothing on a CPU: it is configured as if these processes had GPUs, and gloo replaces NCCL.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import yaml
from accelerate.state import PartialState
from accelerate.utils import DistributedType

from atomthink_plugin.cli import main

CONFIG = Path(__file__).parents[2] / "training" / "recipes" / "accelerate" / "fsdp.yaml"


def environment() -> dict[str, str]:
    """What `accelerate launch` makes of the file."""
    config = yaml.safe_load(CONFIG.read_text())
    settings = {name.upper(): str(value) for name, value in config["fsdp_config"].items()}
    return {"ACCELERATE_USE_FSDP": "true", "ACCELERATE_MIXED_PRECISION": config["mixed_precision"], **settings}


def pretend(plain: Any) -> Any:
    """Returns the beginning of a state that is, once there, that of processes with a GPU each."""

    def begin(state: PartialState, *arguments: Any, **options: Any) -> None:
        plain(state, *arguments, **options)
        if state._shared_state["distributed_type"] == DistributedType.MULTI_CPU:
            state._shared_state["distributed_type"] = DistributedType.MULTI_GPU

    return begin


if __name__ == "__main__":
    os.environ |= environment()
    PartialState.__init__ = pretend(PartialState.__init__)  # type: ignore[method-assign]
    sys.exit(main(sys.argv[1:]))
