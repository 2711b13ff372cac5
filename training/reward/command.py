"""The arguments of `atomthink train prm` and `atomthink prm mine`, and what they start."""

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


def add_mining(actions: Any) -> None:
    """Adds the search for hard examples to the actions of `atomthink prm`."""
    mine = actions.add_parser(
        "mine",
        help="labelled chains that a PRM misjudges, for its next round of training",
        description="Scores all labelled steps of chains, best those that the policy sampled, and writes the chains "
        "with a misjudged step, the worst first.",
    )
    mine.add_argument("chains", type=Path, metavar="CHAINS", help="labelled chains, as `atomthink label` writes them")
    mine.add_argument("--prm", required=True, help="one that `atomthink train prm` made")
    mine.add_argument("--out", type=Path, required=True, metavar="FILE", help="in the folder of CHAINS")
    mine.add_argument("--batch_size", type=int, default=32, metavar="N", help="chains in a forward pass (default: 32)")
    mine.set_defaults(command=_mine)


def _train(options: argparse.Namespace) -> None:
    from atomthink_plugin.training.fine_tuning.config import load_recipe
    from atomthink_plugin.training.reward.config import PrmRecipe
    from atomthink_plugin.training.reward.train import train_prm

    train_prm(load_recipe(PrmRecipe, options.recipe, options.overrides))


def _mine(options: argparse.Namespace) -> None:
    from atomthink_plugin.training.reward.mining import mine

    mine(options.chains, options.prm, options.out, options.batch_size)
