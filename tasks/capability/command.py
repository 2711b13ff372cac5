"""What `atomthink atoms` starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from atomthink_plugin.api import AtomThinkError


def _build(options: Any) -> None:
    from atomthink_plugin.report.output_files import writable
    from atomthink_plugin.tasks.capability.labellers import KeywordLabeller, Labeller, LanguageModelLabeller
    from atomthink_plugin.tasks.capability.record_set import build, demo_chains, shown
    from atomthink_plugin.tasks.capability.records import read_chains
    from atomthink_plugin.tasks.capability.taxonomy import load_taxonomy
    from atomthink_plugin.tasks.demo.questions import DEMO_SIZE, held_out

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


def _evaluate(options: Any) -> None:
    from atomthink_plugin.named_models import rollout_plan
    from atomthink_plugin.plugins.arguments import read_pairs
    from atomthink_plugin.report.output_files import writable
    from atomthink_plugin.runtime.build import build
    from atomthink_plugin.tasks.capability.records import read_records
    from atomthink_plugin.tasks.capability.report import evaluate, publish
    from atomthink_plugin.tasks.capability.taxonomy import load_taxonomy

    writable("--json", options.json)
    writable("--html", options.html)
    taxonomy = load_taxonomy(options.taxonomy)
    records = read_records(options.records)
    chains = list(dict.fromkeys(record.chain for record in records))[: options.limit]
    records = [record for record in records if record.chain in set(chains)]
    for record in records:
        taxonomy.group_of(record.ability)
    runner = build(rollout_plan(options.model, read_pairs("--model-args", options.model_args)))
    report = evaluate(records, options.records.absolute().parent, taxonomy, runner, options.rollouts)
    publish(report, f"Atomic capability of {options.model}, {len(chains)} chains", options.json, options.html)
