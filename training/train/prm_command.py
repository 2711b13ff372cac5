"""The arguments of `atomthink train prm`, and what they start."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_training(actions: Any) -> None:
    """Adds the training of PRMs to the actions of `atomthink train`."""
    prm = actions.add_parser(
        "prm",
        help="train a process reward model on labelled chains",
        description="Trains a language model that is read at a tag (`kind: token`), or a classifier of tokens "
        "(`kind: head`), with or without images, on chains with step labels. Several processes: accelerate launch "
        "-m atomthink_plugin.cli train prm RECIPE.yaml",
    )
    prm.add_argument("recipe", type=Path, metavar="RECIPE.yaml", help="what to train, on what, and how")
    prm.add_argument("overrides", nargs="*", metavar="key=value", help="instead of what the recipe says")
    prm.set_defaults(command=_train)


def _train(options: argparse.Namespace) -> None:
    from atomthink_plugin.training.train.prm import train_prm
    from atomthink_plugin.training.train.prm_recipe import PrmRecipe
    from atomthink_plugin.training.train.recipe import load_recipe

    train_prm(load_recipe(PrmRecipe, options.recipe, options.overrides))
