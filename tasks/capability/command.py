"""The arguments of `atomthink atoms`, and what they start."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from atomthink_plugin.api import AtomThinkError


def add_to(commands: Any) -> None:
    """Adds the subcommands to the parser of `atomthink`."""
    atoms = commands.add_parser("atoms", help="measure how well a model does each kind of step (atomic capability)")
    actions = atoms.add_subparsers(required=True, metavar="ACTION")
    _add_build(actions)
    _add_evaluate(actions)


def _add_build(actions: Any) -> None:
    parser = actions.add_parser(
        "build",
        help="make a set of records from reference chains",
        description="Clusters the steps of reference chains, maps the clusters to abilities, and writes one record per "
        "step: question, images, the history up to it, and its ability.",
    )
    parser.add_argument(
        "chains",
        help="JSONL with id, question, images, steps, answer; or `demo` for the demo task's gold chains",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the set, as JSONL")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N chains (demo: of 200)")
    parser.add_argument("--taxonomy", type=Path, metavar="FILE", help="other abilities than AtomThink's (YAML or JSON)")
    parser.add_argument(
        "--labeller", choices=("words", "llm"), default="words", help="by keywords (default), or by a language model"
    )
    parser.add_argument("--labeller-model", metavar="NAME", help="with --labeller llm; the key is OPENAI_API_KEY")
    parser.add_argument("--base-url", metavar="URL", help="with --labeller llm: any OpenAI-compatible server")
    parser.set_defaults(command=_build)


def _add_evaluate(actions: Any) -> None:
    parser = actions.add_parser(
        "evaluate",
        help="roll out from every prefix of a set",
        description="Samples rollouts from every prefix of a set and says how well the model does each kind of step.",
    )
    parser.add_argument("records", type=Path, help="a set that `atomthink atoms build` made")
    parser.add_argument("--model", default="atomthink_tiny", help="as for lmms-eval (default: the embedded model)")
    parser.add_argument("--model_args", default="", metavar="A=B,...", help="as for lmms-eval")
    parser.add_argument("--rollouts", type=int, default=10, metavar="M", help="from each prefix (default: 10)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N chains")
    parser.add_argument("--taxonomy", type=Path, metavar="FILE", help="the one the set was made with")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers to FILE")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write a page with a radar chart to FILE")
    parser.set_defaults(command=_evaluate)


def _build(options: argparse.Namespace) -> None:
    from atomthink_plugin.report.output_files import writable
    from atomthink_plugin.tasks.capability.labellers import KeywordLabeller, Labeller, LanguageModelLabeller
    from atomthink_plugin.tasks.capability.record_set import build, demo_chains, shown
    from atomthink_plugin.tasks.capability.records import read_chains
    from atomthink_plugin.tasks.capability.taxonomy import load_taxonomy
    from atomthink_plugin.tasks.demo.questions import DEMO_SIZE, held_out

    _at_least_one("--limit", options.limit)
    writable("--out", options.out)
    taxonomy = load_taxonomy(options.taxonomy)
    labeller: Labeller = KeywordLabeller()
    if options.labeller == "llm":
        if options.labeller_model is None:
            raise AtomThinkError("`--labeller llm` needs a model: name it with `--labeller-model`")
        labeller = LanguageModelLabeller(
            options.labeller_model, options.base_url, lambda items: shown(items, "behaviours")
        )
    if options.chains == "demo":
        source = options.out.absolute().parent
        chains = demo_chains(held_out(min(options.limit or DEMO_SIZE, DEMO_SIZE)), source)
    else:
        source = Path(options.chains).absolute().parent
        chains = read_chains(Path(options.chains))[: options.limit]
    build(chains, source, options.out, labeller, taxonomy)


def _evaluate(options: argparse.Namespace) -> None:
    from atomthink_plugin.named_models import rollout_plan
    from atomthink_plugin.plugins.arguments import read_pairs
    from atomthink_plugin.report.output_files import writable
    from atomthink_plugin.runtime.build import build
    from atomthink_plugin.tasks.capability.records import read_records
    from atomthink_plugin.tasks.capability.report import evaluate, publish
    from atomthink_plugin.tasks.capability.taxonomy import load_taxonomy

    _at_least_one("--rollouts", options.rollouts)
    _at_least_one("--limit", options.limit)
    writable("--json", options.json)
    writable("--html", options.html)
    taxonomy = load_taxonomy(options.taxonomy)
    records = read_records(options.records)
    chains = list(dict.fromkeys(record.chain for record in records))[: options.limit]
    records = [record for record in records if record.chain in set(chains)]
    for record in records:
        taxonomy.group_of(record.ability)
    runner = build(rollout_plan(options.model, read_pairs("--model_args", options.model_args)))
    report = evaluate(records, options.records.absolute().parent, taxonomy, runner, options.rollouts)
    publish(report, f"Atomic capability of {options.model}, {len(chains)} chains", options.json, options.html)


def _at_least_one(option: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise AtomThinkError(f"`{option} {value}`: has to be 1 or more")
