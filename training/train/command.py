"""The arguments of `atomthink train policy`, `atomthink train dpo` and `atomthink pairs`, and what they start."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from atomthink_plugin.api import AtomThinkError


def add_to(actions: Any) -> None:
    """Adds the trainings of this package to the actions of `atomthink train`."""
    policy = actions.add_parser(
        "policy",
        help="supervised fine-tuning of a policy on chains of steps",
        description="Fine-tunes any image-text-to-text checkpoint on chains, as inference renders them. Several "
        "processes: accelerate launch -m atomthink_plugin.cli train policy RECIPE.yaml",
    )
    _recipe(policy)
    policy.set_defaults(command=_policy)
    dpo = actions.add_parser(
        "dpo",
        help="preference tuning of a policy on pairs of steps",
        description="Tunes a policy on the pairs that `atomthink pairs` makes. The next round's recipe names this "
        "round's `out` as its model.",
    )
    _recipe(dpo)
    dpo.set_defaults(command=_dpo)


def add_pairs_to(commands: Any) -> None:
    """Adds `pairs` to the parser of `atomthink`."""
    parser = commands.add_parser(
        "pairs",
        help="make pairs of better and worse steps from searches",
        description="Makes pairs for `atomthink train dpo`: siblings in a search that a PRM scores apart, and rests of "
        "paths to a right and to a wrong answer. From journals of runs, from files of chains with known answers, or "
        "from a search that is run for it (--model). What gives none because it cannot goes to FILE.rejects.jsonl.",
    )
    parser.add_argument(
        "sources", nargs="*", type=Path, metavar="SOURCE", help="a journal's folder, or chains as JSONL"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the pairs, as JSONL")
    parser.add_argument(
        "--questions", type=Path, metavar="FILE", help="JSONL with id, question, images, answer: of journals, or to ask"
    )
    parser.add_argument("--model", help="search the questions with this model, named as for lmms-eval")
    parser.add_argument("--model_args", default="", metavar="A=B,...", help="its arguments, such as thinking=slow")
    parser.add_argument("--margin", type=float, default=0.2, help="between the scores of siblings (default: 0.2)")
    parser.add_argument("--per-prefix", type=int, default=1, metavar="N", help="pairs at one prefix (default: 1)")
    parser.add_argument("--per-question", type=int, default=4, metavar="N", help="pairs of whole paths (default: 4)")
    parser.set_defaults(command=_pairs)


def _recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path, metavar="RECIPE.yaml", help="what to train, on what, and how")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="instead of what the recipe says")


def _policy(options: argparse.Namespace) -> None:
    from atomthink_plugin.training.train.recipe import PolicyRecipe, load_recipe

    recipe = load_recipe(PolicyRecipe, options.recipe, options.overrides)
    # Importing this takes seconds, which a mistyped recipe need not wait for.
    from atomthink_plugin.training.train.sft import train_policy

    train_policy(recipe)


def _dpo(options: argparse.Namespace) -> None:
    from atomthink_plugin.training.train.recipe import DpoRecipe, load_recipe

    recipe = load_recipe(DpoRecipe, options.recipe, options.overrides)
    from atomthink_plugin.training.train.dpo import train_dpo

    train_dpo(recipe)


def _pairs(options: argparse.Namespace) -> None:
    from atomthink_plugin.plugins.arguments import read_pairs
    from atomthink_plugin.training.pairs.pairing import PairLimits
    from atomthink_plugin.training.pairs.searching import make_pairs, search

    if not 0 < options.margin <= 1:
        raise AtomThinkError(f"`--margin {options.margin}`: has to be above 0 and at most 1")
    for name in ("per_prefix", "per_question"):
        if getattr(options, name) < 0:
            raise AtomThinkError(f"`--{name.replace('_', '-')} {getattr(options, name)}`: has to be 0 or more")
    sources = list(options.sources)
    if options.model is not None:
        if options.questions is None:
            raise AtomThinkError("`--model` needs questions to ask: name them with `--questions`")
        typed = read_pairs("--model_args", options.model_args)
        sources.append(search(options.model, typed, options.questions, options.out))
    if not sources:
        raise AtomThinkError("no source: name a journal's folder or a file of chains, or search with `--model`")
    limits = PairLimits(options.margin, options.per_prefix, options.per_question)
    make_pairs(sources, options.questions, options.out, limits)
