"""`atomthink train`, one action for each kind of model that is trained, and what makes its data."""

from __future__ import annotations

from typing import Any

from atomthink_plugin.training.tiny import command as tiny
from atomthink_plugin.training.train import command as fine_tuning
from atomthink_plugin.training.train import prm_command as reward


def add_to(commands: Any) -> None:
    """Adds the subcommands to the parser of `atomthink`."""
    train = commands.add_parser("train", help="train a policy or a process reward model")
    actions = train.add_subparsers(required=True, metavar="WHAT")
    fine_tuning.add_to(actions)
    reward.add_training(actions)
    tiny.add_to(actions)
    fine_tuning.add_pairs_to(commands)
