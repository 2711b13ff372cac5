"""What `atomthink data` starts."""

from __future__ import annotations

import json
from typing import Any

from atomthink_plugin.api import AtomThinkError


def _records(options: Any) -> None:
    from atomthink_plugin.training.export.folders import read_about, write_folder
    from atomthink_plugin.training.export.records import make, prm, sft
    from atomthink_plugin.training.records import Chain, read_records

    found = read_records(options.chains, Chain)
    made = make(found.records, {"sft": sft, "prm": prm}[options.kind], options.chains.name)
    if not made.of:
        raise AtomThinkError(f"{options.chains} has no chain for `data {options.kind}`: {made.rejects[0].reason}")
    write_folder(options.out, options.kind, found, made, read_about(options.chains))
    records = sum(len(own) for _, own in made.of)
    rejected = len(found.rejects) + len(made.rejects)
    print(f"{records} records of {len(made.of)} chains in {options.out}, {rejected} chains rejected")


def _read(options: Any) -> None:
    from atomthink_plugin.training.export.published import read_published
    from atomthink_plugin.training.records import nothing_usable, sibling_file, write_records, write_rejects

    read = read_published(options.file, options.images, options.out)
    write_rejects(sibling_file(options.out, "rejects.jsonl"), read.found.rejects)
    if not read.found.records:
        raise nothing_usable(options.file, read.found.rejects)
    write_records(options.out, read.found.records)
    print(
        f"{read.records} records: {read.used} in {len(read.found.records)} chains, "
        f"{len(read.found.rejects)} rejected; in {options.out}"
    )


def _quality(options: Any) -> None:
    from atomthink_plugin.runtime.event_loop import run
    from atomthink_plugin.training.annotate.meter import Meter
    from atomthink_plugin.training.annotate.teacher import connect
    from atomthink_plugin.training.export.quality import judge, sampled, statistics
    from atomthink_plugin.training.records import Chain, count_reasons, read_records

    found = read_records(options.chains, Chain)
    told: dict[str, Any] = {"statistics": statistics(found.records, _counter(options.tokenizer))}
    told["statistics"] |= {"rejected": len(found.rejects), "rejects": count_reasons(found.rejects)}
    if options.judge_model is not None:
        meter = Meter(max_tokens=options.max_tokens_total)
        teacher = connect(options.judge_model, options.base_url, meter)
        judged = run(judge(found, sampled(found.records, options.samples), teacher, 16))
        told["judge"] = {"model": options.judge_model, **judged.told()}
        told["tokens_spent"] = meter.spent.tokens
    print(json.dumps(told, indent=1))
    if options.json is not None:
        if options.judge_model is not None:
            told |= {"scores": judged.scores, "failures": judged.failed}
        options.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def _counter(name: str | None) -> Any:
    """Returns what counts tokens with a checkpoint's tokenizer, None without one."""
    if name is None:
        return None
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise AtomThinkError(f"`--tokenizer {name}` cannot be loaded: {str(error).splitlines()[0]}") from None
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])
