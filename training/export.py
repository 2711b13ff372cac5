"""Writes chains as data sets in the form of AMATH-SFT, AMATH-PRM and LLaVA-CoT-100k.

A data set is a folder: parquet files for `datasets` and trl, a JSON or JSONL file as published with its images, a data
card and the rejects.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from atomthink_plugin import api
from atomthink_plugin.api import AtomThinkError, Message, Question, Step
from atomthink_plugin.formats.atomic import Atomic
from atomthink_plugin.formats.steps import SEPARATOR
from atomthink_plugin.json_rows import Reject, json_rows, nothing_usable
from atomthink_plugin.training.images import PLACEHOLDER
from atomthink_plugin.training.llava_cot import row_of
from atomthink_plugin.training.records import Chain, read_records, write_rejects

Form = Literal["sft", "prm", "stages"]
Fields = Mapping[str, Any]

KIND: Final = "error_kind"
"""Field of a PRM record that published files do not have: the kind of error of a wrong step."""

SHARD: Final = 2000  # records per parquet file: bounds the memory that their images take
TAG: Final = "\n" * 5  # follows each labelled step of a published PRM record
PUBLISHED: Final[Mapping[Form, Sequence[str]]] = {
    "sft": ("final_input_prompt", "image", "conversations", "answer"),
    "prm": ("question", "process", "label", "image"),
    "stages": ("id", "image", "conversations"),
}
"""Fields of the published file. The published PRM records have no `image`."""

PUBLISHED_FILE: Final[Mapping[Form, str]] = {"sft": "amath_sft.json", "prm": "amath_prm.json", "stages": "train.jsonl"}
_TITLE: Final = {
    "sft": "Atomic steps for fine-tuning a policy",
    "prm": "Labelled steps for a process reward model",
    "stages": "Stages for fine-tuning a policy",
}
_USE: Final = {
    "sft": "`amath_sft.json` has the form of AMATH-SFT (sharegpt). This folder is a `dataset_dir` of LLaMA-Factory, "
    "with `dataset: amath_sft`. The parquet files have the columns `prompt`, `completion` and `images` that trl's "
    "SFTTrainer takes for models of text and images.",
    "prm": "`amath_prm.json` has the form of AMATH-PRM: `process` ends with five line breaks after the step that "
    "`label` belongs to. The parquet files also have the images, and the label as a probability in `value`. "
    "`error_kind`, if there is such a field, says whether a wrong step misreads the image (`perception`) or not.",
    "stages": "`train.jsonl` has the form of LLaVA-CoT-100k: the question, and a reply of four tagged stages. The "
    "parquet files have the columns `prompt`, `completion` and `images` that trl's SFTTrainer takes for models of text "
    "and images.",
}
_LLAMA_FACTORY: Final = {
    "amath_sft": {
        "file_name": "amath_sft.json",
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "images": "image"},
        "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"},
    }
}


class ExportedChain(NamedTuple):
    """A chain and the records made from it."""

    chain: Chain
    rows: Sequence[Fields]


def export_chains(chains: Path, out: Path, form: Form) -> None:
    """Writes the chains of a file as a data set and prints a summary.

    The arguments are those of `atomthink data sft`, `atomthink data prm` and `atomthink data stages`.

    Raises:
        AtomThinkError: A file cannot be read or written, the folder has a data set, or no chain can be used.
    """
    found = read_records(chains, Chain)
    exported, unfit = export_rows(found.records, form, chains.name)
    kinds = any(row.get(KIND) for _, rows in exported for row in rows)
    fields = (*PUBLISHED[form], KIND) if kinds else PUBLISHED[form]
    if not exported:
        raise nothing_usable(chains, unfit)
    if (out / "data").exists():
        raise AtomThinkError(f"`--out {out}` already has a data set: name another folder")
    rejects = [*found.rejects, *unfit]
    try:
        names = _copy_images(out, found.folder, [image for chain, _ in exported for image in chain.images])
        _write_text(out / PUBLISHED_FILE[form], _published(form, _json_rows(form, fields, exported, names)))
        _write_parquet(out / "data", found.folder, exported, kinds)
        if form == "sft":
            _write_text(out / "dataset_info.json", json.dumps(_LLAMA_FACTORY, indent=1))
        _write_text(out / "README.md", _card(form, exported, read_origins(chains), len(rejects)))
    except OSError as error:
        raise AtomThinkError(f"`--out {out}` cannot be written: {error}") from None
    write_rejects(out / "rejects.jsonl", rejects)
    print(f"{found.read} chains: {len(exported)} used, {len(rejects)} rejected")
    print(f"{sum(len(rows) for _, rows in exported)} records: {out}")
    if form != "prm":
        print(f"next: trl sft --model_name_or_path MODEL --dataset_name {out}")


def export_rows(chains: Sequence[Chain], form: Form, file: str) -> tuple[list[ExportedChain], list[Reject]]:
    """Returns the records of all chains of a file, and the chains that have none."""
    exported: list[ExportedChain] = []
    rejects: list[Reject] = []
    for chain in chains:
        try:
            if PLACEHOLDER in chain.question or any(PLACEHOLDER in step for step in chain.steps):
                raise ValueError(f"its text has {PLACEHOLDER}, which readers of these records replace by an image")
            exported.append(ExportedChain(chain, list(_ROWS[form](chain))))
        except ValueError as error:
            rejects.append(Reject(f"{file}, id {chain.id!r}", str(error), chain.model_dump(exclude_none=True)))
    return exported, rejects


def _sft_rows(chain: Chain) -> Iterator[Fields]:
    """Yields one record per step: question and history in the published template, and the step as the reply."""
    if chain.format not in (None, "atomic"):
        raise ValueError(f"`format: {chain.format}`: these records are atomic steps; remove it if these steps are, too")
    if chain.labels is not None and (error := chain.first_error()) is not None:
        raise ValueError(f"step {error + 1} is labelled wrong")
    path = api.Path(Question(chain.id, (Message("user", (chain.question,)),)))
    images = PLACEHOLDER * len(chain.images) + ("\n" if chain.images else "")
    for number, step in enumerate(chain.steps, start=1):
        prompt = "".join(str(part) for part in Atomic().render(path).messages[-1].parts)
        yield {
            "id": f"{chain.id}/{number}",
            "final_input_prompt": images + prompt,
            "conversations": [{"from": "human", "value": images + prompt}, {"from": "gpt", "value": step}],
            "answer": chain.answer,
            "prompt": [{"role": "user", "content": prompt}],
            "completion": [{"role": "assistant", "content": step}],
        }
        path = path.extend(Step(step))


def _prm_rows(chain: Chain) -> Iterator[Fields]:
    """Yields one record per labelled step: the steps up to it, and whether it is right."""
    labels = [(at, label) for at, label in enumerate(chain.labels or ()) if label is not None]
    if not labels:
        raise ValueError("no step has a label")
    for at, label in labels:
        yield {
            "id": f"{chain.id}/{at + 1}",
            "question": chain.question,
            "process": SEPARATOR.join(chain.steps[: at + 1]) + TAG,
            "label": ["+" if label >= 0.5 else "-"],
            "value": label,
            KIND: chain.wrong_kinds()[at],
        }


def _stage_rows(chain: Chain) -> Iterator[Fields]:
    """Yields the record of a chain: the bare question, and the stages as the reply."""
    if chain.labels is not None and (error := chain.first_error()) is not None:
        raise ValueError(f"step {error + 1} is labelled wrong")
    row = row_of(chain)
    question, reply = (turn["value"] for turn in row["conversations"])
    yield {
        **row,
        "answer": chain.answer,
        "prompt": [{"role": "user", "content": question}],
        "completion": [{"role": "assistant", "content": reply}],
    }


_ROWS: Final[Mapping[Form, Callable[[Chain], Iterator[Fields]]]] = {
    "sft": _sft_rows,
    "prm": _prm_rows,
    "stages": _stage_rows,
}


def _published(form: Form, rows: Sequence[Fields]) -> str:
    if form == "stages":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return json.dumps(rows, ensure_ascii=False, indent=1)


def _json_rows(
    form: Form, fields: Sequence[str], exported: Sequence[ExportedChain], names: Mapping[str, str]
) -> list[Fields]:
    """Returns the published form. `image` is a name, or a list in all records if one of them has several or none.

    Stages always have one name or none.
    """
    single = all(len(chain.images) == 1 for chain, _ in exported)
    found: list[Fields] = []
    for chain, rows in exported:
        images = [names[image] for image in chain.images]
        image = next(iter(images), None) if form == "stages" else images[0] if single else images
        found += [{name: {**row, "image": image}[name] for name in fields} for row in rows]
    return found


def _copy_images(out: Path, folder: Path, images: Sequence[str]) -> dict[str, str]:
    """Copies images and returns their new names, numbered in their order."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    names: dict[str, str] = {}
    for image in dict.fromkeys(images):
        names[image] = f"images/{len(names):06d}{Path(image).suffix.lower()}"
        shutil.copyfile(folder / image, out / names[image])
    return names


def _write_parquet(out: Path, source: Path, exported: Sequence[ExportedChain], kinds: bool) -> None:
    import datasets

    def with_images() -> Iterator[Fields]:
        for chain, rows in exported:
            images = [{"path": Path(image).name, "bytes": (source / image).read_bytes()} for image in chain.images]
            for row in rows:
                yield {name: value for name, value in row.items() if kinds or name != KIND} | {"images": images}

    out.mkdir()
    remaining, shard = with_images(), 0
    while rows := list(islice(remaining, SHARD)):
        table = datasets.Dataset.from_list(rows).cast_column("images", datasets.List(datasets.Image()))
        if kinds:
            table = table.cast_column(KIND, datasets.Value("string"))  # a shard may have no kind at all
        table.to_parquet(out / f"train-{shard:05d}.parquet")
        shard += 1


def _write_text(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8", errors="replace")  # JSON can hold lone surrogates, UTF-8 cannot


def read_origins(chains: Path) -> dict[str, tuple[str, str]]:
    """Returns the data set and the method that a file names for its chains, by their ids."""
    found: dict[str, tuple[str, str]] = {}
    for _, row in json_rows(chains):
        if isinstance(row, dict) and "id" in row:
            method = row.get("method") or row.get("way")  # the older name
            found[str(row["id"]).strip()] = str(row.get("source") or "unknown"), str(method or "unknown")
    return found


def _card(form: Form, exported: Sequence[ExportedChain], origins: Mapping[str, tuple[str, str]], rejected: int) -> str:
    chains, records = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for chain, rows in exported:
        origin = origins.get(chain.id, ("unknown", "unknown"))
        chains[origin] += 1
        records[origin] += len(rows)
    table = [f"| {' | '.join(origin)} | {chains[origin]} | {records[origin]} |" for origin in sorted(chains)]
    labels = Counter(row["label"][0] for _, rows in exported for row in rows) if form == "prm" else {}
    return "\n".join(
        [
            *("---", "configs:", "- config_name: default", "  data_files: data/*.parquet", "---", ""),
            *(f"# {_TITLE[form]}", "", _USE[form], ""),
            *("| source | method | chains | records |", "|---|---|---|---|", *table),
            *(f"| all | | {chains.total()} | {records.total()} |", ""),
            *([f"Labels: {labels['+']} right (+), {labels['-']} wrong (-).", ""] if labels else []),
            f"{chains.total() + rejected} chains were read, {rejected} rejected (`rejects.jsonl` has the reasons).",
            "Written by `atomthink data`.",
            "",
        ]
    )
