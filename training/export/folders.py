"""Records as a folder: parquet for `datasets` and trl, JSON as published with its pictures beside it, a card."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.training.export.records import Records
from atomthink_plugin.training.records import Chain, RecordFile, json_rows, write_rejects

SHARD: Final = 2000  # records of one parquet file: bounds the memory that their pictures take

PUBLISHED: Final[Mapping[str, Sequence[str]]] = {
    "sft": ("final_input_prompt", "image", "conversations", "answer"),
    "prm": ("question", "process", "label", "image"),
}
"""Fields of the JSON; the published PRM records are without images."""

_TITLE: Final = {"sft": "Atomic steps for fine-tuning a policy", "prm": "Labelled steps for a process reward model"}
_USE: Final = {
    "sft": "`amath_sft.json` is in the form of AMATH-SFT (sharegpt); this folder is LLaMA-Factory's `dataset_dir`, "
    "with `dataset: amath_sft`. The parquet files have `prompt`, `completion` and `images` as trl's SFTTrainer takes "
    "them for models of text and images.",
    "prm": "`amath_prm.json` is in the form of AMATH-PRM: `process` ends with five line breaks behind the step that "
    "`label` is of. The parquet files have the pictures and `value`, the label as a probability.",
}


def write_folder(
    out: Path, kind: str, found: RecordFile[Chain], made: Records, about: Mapping[str, Mapping[str, str]]
) -> None:
    """Writes the records of a kind.

    Args:
        out: The folder.
        kind: `sft` or `prm`.
        found: Where the chains and their pictures are from.
        made: The records.
        about: Source and way of chains, by id.

    Raises:
        AtomThinkError: The folder cannot be written, or holds records of another run.
    """
    if (out / "data").exists():
        raise AtomThinkError(f"`--out {out}` has records already: name a folder without")
    try:
        name_of = _copied(out, found.folder, [image for chain, _ in made.of for image in chain.images])
        rows = _rows(kind, made, name_of)
        _write(out / f"amath_{kind}.json", json.dumps(rows, ensure_ascii=False, indent=1))
        _write_parquet(out / "data", found.folder, made)
        if kind == "sft":
            _write(out / "dataset_info.json", json.dumps(_llama_factory(), indent=1))
        _write(out / "README.md", _card(kind, found, made, about))
    except OSError as error:
        raise AtomThinkError(f"`--out {out}` cannot be written: {error}") from None
    write_rejects(out / "rejects.jsonl", [*found.rejects, *made.rejects])


def read_about(file: Path) -> dict[str, dict[str, str]]:
    """Returns what a file says of its chains beside what they are: source and way, by id."""
    told: dict[str, dict[str, str]] = {}
    for _, record in json_rows(file):
        if isinstance(record, dict) and "id" in record:
            told[str(record["id"])] = {name: str(record.get(name) or "unknown") for name in ("source", "way")}
    return told


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8", errors="replace")  # half a character of two is nothing that UTF-8 has


def _copied(out: Path, folder: Path, images: Sequence[str]) -> dict[str, str]:
    """Copies pictures and returns their new names, in the order they are met."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    name_of: dict[str, str] = {}
    for image in dict.fromkeys(images):
        name = f"images/{len(name_of):06d}{Path(image).suffix.lower()}"
        shutil.copyfile(folder / image, out / name)
        name_of[image] = name
    return name_of


def _rows(kind: str, made: Records, name_of: Mapping[str, str]) -> list[dict[str, Any]]:
    """The published form: `image` is one name, or a list in all records where one of them has more or none."""
    single = all(len(chain.images) == 1 for chain, _ in made.of)
    rows = []
    for chain, records in made.of:
        names = [name_of[image] for image in chain.images]
        image = names[0] if single else names
        rows += [{name: {**record, "image": image}[name] for name in PUBLISHED[kind]} for record in records]
    return rows


def _write_parquet(folder: Path, source: Path, made: Records) -> None:
    import datasets

    folder.mkdir()
    rows = _with_pictures(source, made)
    shard = 0
    while chunk := list(islice(rows, SHARD)):
        table = datasets.Dataset.from_list(chunk)
        table = table.cast_column("images", datasets.List(datasets.Image()))
        table.to_parquet(folder / f"train-{shard:05d}.parquet")
        shard += 1


def _with_pictures(source: Path, made: Records) -> Iterator[dict[str, Any]]:
    for chain, records in made.of:
        images = [{"path": Path(image).name, "bytes": (source / image).read_bytes()} for image in chain.images]
        for record in records:
            yield {**record, "images": images}


def _llama_factory() -> dict[str, Any]:
    return {
        "amath_sft": {
            "file_name": "amath_sft.json",
            "formatting": "sharegpt",
            "columns": {"messages": "conversations", "images": "image"},
            "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"},
        }
    }


def _card(kind: str, found: RecordFile[Chain], made: Records, about: Mapping[str, Mapping[str, str]]) -> str:
    rejected = len(found.rejects) + len(made.rejects)
    chains: Counter[tuple[str, str]] = Counter()
    records: Counter[tuple[str, str]] = Counter()
    for chain, own in made.of:
        told = about.get(chain.id, {})
        group = told.get("source", "unknown"), told.get("way", "unknown")
        chains[group] += 1
        records[group] += len(own)
    lines = [f"| {source} | {way} | {chains[source, way]} | {records[source, way]} |" for source, way in sorted(chains)]
    labels = Counter(record["label"][0] for _, own in made.of for record in own) if kind == "prm" else {}
    told_labels = [f"Labels: {labels['+']} right (+), {labels['-']} wrong (-).", ""] if labels else []
    return "\n".join(
        [
            *("---", "configs:", "- config_name: default", "  data_files: data/*.parquet", "---", ""),
            *(f"# {_TITLE[kind]}", "", _USE[kind], ""),
            *("| source | way | chains | records |", "|---|---|---|---|", *lines),
            f"| all | | {chains.total()} | {records.total()} |",
            "",
            *told_labels,
            f"{chains.total() + rejected} chains were read, {rejected} rejected (`rejects.jsonl`, with reasons). "
            "Written by `atomthink data`.",
            "",
        ]
    )
