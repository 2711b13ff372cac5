"""From a file, a folder or a hub dataset to labelled chains and rejects."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.training.evaluate.labelled import Labelled, LabelledSet, Place
from atomthink_plugin.training.evaluate.readers import READERS, detected
from atomthink_plugin.training.images import as_stored, image_faults
from atomthink_plugin.training.records import Reject, describe_error, json_rows, nothing_usable

log = logging.getLogger(__name__)

_ENDINGS: Final = (".jsonl", ".json", ".parquet")

Record = tuple[Place, Any]
"""What stands at a place: a mapping, or what is none."""


def read_set(source: str, format: str | None = None, limit: int | None = None) -> LabelledSet:
    """Returns the labelled chains of a file, of the files in a folder (or in its `data/`), or of a hub dataset.

    Args:
        source: JSONL, JSON, parquet, a folder with such files, or a dataset's name on the hub.
        format: Name of the format, None to tell it from the fields.
        limit: Only the first records.

    Raises:
        AtomThinkError: It cannot be read, its format is unknown, or nothing in it can be used.
    """
    records = list(islice(_records(source), limit))
    name = format or _format_of(source, records)
    found = _sighted(_read(name, records))
    if not found.chains:
        raise nothing_usable(source, found.rejects)
    if found.rejects:
        log.warning("%s: %d of %d records are rejected", source, len(found.rejects), found.records)
    return found


def _format_of(source: str, records: list[Record]) -> str:
    mappings = (record for _, record in records if isinstance(record, Mapping))
    fields: list[str] = []
    for record in mappings:
        name = detected(record)
        if name is not None:
            return name
        fields = fields or sorted(record)
    raise AtomThinkError(
        f"{source}: its format cannot be told from the fields of its records ({', '.join(fields) or 'none'}): name it "
        f"with --format {'|'.join(READERS)}"
    )


def _read(name: str, records: list[Record]) -> LabelledSet:
    chains: dict[str, Labelled] = {}
    rejects: list[Reject] = []
    for place, record in records:
        if isinstance(record, Reject):
            rejects.append(record)
            continue
        if not isinstance(record, Mapping):
            rejects.append(Reject(str(place), "no JSON object", record))
            continue
        try:
            own, *shared = READERS[name].read(record, place)
            if own.chain.id in chains:
                raise ValueError(f"the id {own.chain.id!r} occurred before")
        except ValidationError as error:
            rejects.append(Reject(str(place), describe_error(error), record))
        except ValueError as error:
            rejects.append(Reject(str(place), str(error), record))
        else:
            chains[own.chain.id] = own
            for other in shared:
                chains.setdefault(other.chain.id, other)
    return LabelledSet(name, len(records), tuple(chains.values()), tuple(rejects))


def _sighted(found: LabelledSet) -> LabelledSet:
    """Sets chains aside whose images cannot be decoded."""
    reasons = image_faults(picture for item in found.chains for picture in item.pictures)
    good: list[Labelled] = []
    bad: list[Reject] = []
    for item in found.chains:
        named = zip(item.chain.images, item.pictures, strict=True)
        broken = [f"image {name}: {reasons[picture]}" for name, picture in named if picture in reasons]
        if broken:
            bad.append(Reject(f"id {item.chain.id!r}", "; ".join(broken), item.chain.model_dump(exclude_none=True)))
        else:
            good.append(item)
    return LabelledSet(found.format, found.records, tuple(good), (*found.rejects, *bad))


# --- where records are ---------------------------------------------------------------------------


def _records(source: str) -> Iterator[Record]:
    path = Path(source).expanduser()
    if path.is_dir():
        files = [file for file in sorted((*path.iterdir(), *path.glob("data/*"))) if file.suffix in _ENDINGS]
        if not files:
            raise AtomThinkError(f"{source} has no {', '.join(_ENDINGS)} file")
        return chain.from_iterable(_of_file(file) for file in files)
    if path.is_file() or path.suffix in _ENDINGS:
        return _of_file(path)
    return _of_hub(source)


def _of_file(file: Path) -> Iterator[Record]:
    rows = _of_parquet(file) if file.suffix == ".parquet" else _of_json(file)
    # A split in several files is one split: `test-00000-of-00001.parquet`.
    split = file.stem.split("-0")[0] if file.suffix == ".parquet" else file.stem
    return ((Place(file.name, number, split, file.parent), row) for number, row in rows)


def _of_json(file: Path) -> Iterator[tuple[int, Any]]:
    for where, record in json_rows(file):
        yield int(where.rpartition(":")[2]), record


def _of_parquet(file: Path) -> Iterator[tuple[int, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        rows = parquet.read_table(file).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise AtomThinkError(f"{file} cannot be read: {error}") from None
    return enumerate(rows, start=1)


def _of_hub(name: str) -> Iterator[Record]:
    from datasets import load_dataset

    try:
        splits = load_dataset(name)
    except Exception as error:  # the hub, the network and the cache each have their own
        raise AtomThinkError(f"{name}: no such file or folder, and as a dataset of the hub: {error}") from None
    for split, rows in splits.items():
        for number, row in enumerate(as_stored(rows), start=1):
            yield Place(f"{name}/{split}", number, str(split), Path()), row
