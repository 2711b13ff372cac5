"""The arguments of `atomthink train tiny`, and what they start."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_to(actions: Any) -> None:
    """Adds the embedded model to the actions of `atomthink train`."""
    tiny = actions.add_parser(
        "tiny",
        help="make the embedded model from nothing, stage by stage",
        description="Runs the recipes of training/recipes/tiny in order: data, policy, process reward model. What is "
        "done is not done again. Stages from 90 on, the comparisons, run only if they are named.",
    )
    tiny.add_argument("--out", type=Path, required=True, metavar="DIR", help="where everything goes")
    tiny.add_argument("--only", nargs="+", metavar="STAGE", help="names or numbers of the stages to run")
    tiny.add_argument(
        "--scale", type=float, default=1.0, metavar="X", help="times as many steps and records (default: 1)"
    )
    tiny.set_defaults(command=_tiny)


def _tiny(options: argparse.Namespace) -> None:
    from atomthink_plugin.training.tiny.stages import run_stages

    run_stages(options.out, options.only, options.scale)
