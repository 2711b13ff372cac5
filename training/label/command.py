"""The arguments of `atomthink label`, and what they start."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from atomthink_plugin.api import AtomThinkError


def add_to(commands: Any) -> None:
    """Adds the command to the parser of `atomthink`."""
    parser = commands.add_parser(
        "label",
        help="label the steps of chains by rollouts, for training a PRM",
        description="Labels the steps of chains by what the model reaches from behind them, and writes the chains with "
        "their labels to OUT, what cannot be labelled to OUT.rejects.jsonl and counts and costs to OUT.summary.json "
        "(OUT without its own ending). A run that is started again goes on where it stopped.",
    )
    parser.add_argument(
        "input",
        type=Path,
        metavar="INPUT",
        help="JSONL with id, question, images, steps, answer; steps are not needed with --sample",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the labelled chains, as JSONL")
    parser.add_argument(
        "--way",
        choices=("monte_carlo", "omega"),
        default="omega",
        help="monte_carlo: rollouts from behind every step (Math-Shepherd); omega: binary search for the first error, "
        "steps behind which have no label (OmegaPRM; default)",
    )
    parser.add_argument("--model", default="atomthink_tiny", help="as for lmms-eval (default: the embedded model)")
    parser.add_argument("--model_args", default="", metavar="A=B,...", help="as for lmms-eval")
    parser.add_argument(
        "--rollouts", type=int, default=8, metavar="N", help="from behind a step; omega: at most (default: 8)"
    )
    parser.add_argument(
        "--soft", action="store_true", help="with --way monte_carlo: labels are the share of right rollouts"
    )
    parser.add_argument("--sample", type=int, metavar="N", help="first sample N chains of each question")
    parser.add_argument(
        "--temperature", type=float, metavar="T", help="with --sample: of the chains (default: the rollouts')"
    )
    parser.set_defaults(command=_label)


def _label(options: argparse.Namespace) -> None:
    for name in ("rollouts", "sample"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise AtomThinkError(f"`--{name} {value}`: has to be 1 or more")
    if options.soft and options.way == "omega":
        raise AtomThinkError("`--soft` goes with `--way monte_carlo`: omega stops at the first right rollout")
    if options.temperature is not None and options.sample is None:
        raise AtomThinkError(f"`--temperature {options.temperature}` goes with `--sample`; rollouts have --model_args")
    if options.temperature is not None and options.temperature < 0:
        raise AtomThinkError(f"`--temperature {options.temperature}`: has to be 0 or more")
    from atomthink_plugin.training.label.running import Order, execute

    given = {name: getattr(options, name) for name in ("input", "out", "way", "rollouts", "soft", "sample")}
    execute(Order(**given, temperature=options.temperature), options.model, options.model_args)
