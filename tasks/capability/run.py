"""The commands `atomthink atoms build` and `atomthink atoms evaluate`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.named_models import rollout_plan
from atomthink_plugin.report.output_files import writable
from atomthink_plugin.runtime.build import build
from atomthink_plugin.tables import print_grid
from atomthink_plugin.tasks.capability.labellers import KeywordLabeller, Labeller, LanguageModelLabeller
from atomthink_plugin.tasks.capability.record_set import behaviour_table, demo_chains, step_records
from atomthink_plugin.tasks.capability.records import read_reference_chains, read_step_records
from atomthink_plugin.tasks.capability.report import CapabilityReport, measure_capability, publish
from atomthink_plugin.tasks.capability.taxonomy import load_taxonomy
from atomthink_plugin.tasks.demo.questions import DEMO_SIZE, held_out
from atomthink_plugin.training.records import Chain, relocated, write_records

log = logging.getLogger(__name__)

DEMO: Final = "demo"


def build_record_set(
    chains: str,
    out: Path,
    *,
    limit: int | None = None,
    taxonomy: Path | None = None,
    labeller: Literal["words", "llm"] = "words",
    labeller_model: str | None = None,
    base_url: str | None = None,
) -> None:
    """Writes a set of step records and prints its behaviours.

    Args:
        chains: A file of reference chains, or `demo` for the gold chains of the demo task.
        out: The JSONL file to write. Its images are relative to its folder.
        limit: Use only the first chains.
        taxonomy: A file with the abilities, None for those of AtomThink.
        labeller: Label the behaviours by keywords, or by a language model.
        labeller_model: The language model, needed for `llm`.
        base_url: URL of the language model's server, None for OpenAI.

    Raises:
        AtomThinkError: The language model is not named or fails, a file cannot be read or written, or no step has an
            ability.
    """
    writable("--out", out)
    abilities = load_taxonomy(taxonomy)
    chosen = _labeller(labeller, labeller_model, base_url)
    found = _demo_chains(out, limit) if chains == DEMO else _file_chains(Path(chains), out, limit)
    records, behaviours, labels = step_records(found, chosen, abilities)
    write_records(out, records)
    print_grid(behaviour_table(behaviours, labels))
    steps = sum(len(chain.steps) for chain in found)
    if steps > len(records):
        log.warning("%d of %d steps have no ability of the taxonomy and no record", steps - len(records), steps)
    log.info("wrote %d records of %d chains to %s", len(records), len(found), out)


def _labeller(kind: Literal["words", "llm"], model: str | None, base_url: str | None) -> Labeller:
    if kind == "words":
        return KeywordLabeller()
    if model is None:
        raise AtomThinkError("`--labeller llm` needs a model: name it with `--labeller-model`")
    return LanguageModelLabeller(model, base_url)


def _demo_chains(out: Path, limit: int | None) -> list[Chain]:
    return demo_chains(held_out(min(limit or DEMO_SIZE, DEMO_SIZE)), out.absolute().parent)


def _file_chains(file: Path, out: Path, limit: int | None) -> Sequence[Chain]:
    chains = read_reference_chains(file, limit)
    return [relocated(chain, chains.folder, out) for chain in chains.records]


def evaluate_record_set(
    file: Path,
    *,
    model: str = "atomthink_tiny",
    model_args: Mapping[str, Any] | None = None,
    rollouts: int = 10,
    limit: int | None = None,
    taxonomy: Path | None = None,
    json_file: Path | None = None,
    html_file: Path | None = None,
) -> CapabilityReport:
    """Measures the abilities of a model on a set of step records, prints them, and writes the files.

    Args:
        file: The set.
        model: The model, named as for lmms-eval.
        model_args: Its arguments.
        rollouts: Rollouts from each prefix.
        limit: Use only the records of the first chains.
        taxonomy: A file with the abilities of the set, None for those of AtomThink.
        json_file: If given, the numbers are written to this file.
        html_file: If given, a page with a radar chart is written to this file.

    Raises:
        AtomThinkError: An argument or a file cannot be used, or no prefix could be asked.
    """
    writable("--json", json_file)
    writable("--html", html_file)
    abilities = load_taxonomy(taxonomy)
    records = read_step_records(file)
    chains = list(dict.fromkeys(record.chain for record in records.records))[:limit]
    chosen = [record for record in records.records if record.chain in set(chains)]
    for record in chosen:
        abilities.group_of(record.ability)  # raises AtomThinkError before the model is loaded
    runner = build(rollout_plan(model, model_args or {}))
    report = measure_capability(chosen, records.folder, abilities, runner, rollouts)
    publish(report, f"Atomic capability of {model}, {len(chains)} chains", json_file, html_file)
    return report
