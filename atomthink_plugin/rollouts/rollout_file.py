"""Reads candidates that somebody else generated, in any of the published formats."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.inference.image_input import Picture, image_faults
from atomthink_plugin.json_rows import Reject, describe_error, nothing_usable
from atomthink_plugin.report.journals import is_journal
from atomthink_plugin.report.run_reader import RecordedRun, read
from atomthink_plugin.rollouts.merging import merge_sets
from atomthink_plugin.rollouts.readers.formats import ROLLOUT_FORMATS
from atomthink_plugin.rollouts.readers.run_folder import run_sets
from atomthink_plugin.rollouts.rollout_rows import rollout_rows
from atomthink_plugin.rollouts.rollout_set import RolloutSet
from atomthink_plugin.source_rows import SourceRow

log = logging.getLogger(__name__)

RUN: Final = "run"
"""The format of our own runs, whose candidates are in their journals."""


@dataclass(frozen=True, slots=True)
class RolloutFileResult:
    """Candidates of files.

    Attributes:
        format: The format's name.
        sets: The questions in the order of their first records.
        records: Number of all records, rejected ones included.
        rejects: Records that cannot be used, with their reasons.
        notes: What a reader of the numbers has to know about the files.
    """

    format: str
    sets: tuple[RolloutSet, ...]
    records: int
    rejects: tuple[Reject, ...]
    notes: tuple[str, ...] = ()

    @property
    def candidates(self) -> int:
        """Number of all candidates."""
        return sum(len(one.candidates) for one in self.sets)

    @property
    def unanswered(self) -> int:
        """Number of candidates without an answer in the file or in their text."""
        return sum(candidate.stated_answer() is None for one in self.sets for candidate in one.candidates)

    @property
    def cut(self) -> int:
        """Number of candidates that may have lost the end of their text."""
        return sum(candidate.cut for one in self.sets for candidate in one.candidates)


@dataclass(frozen=True, slots=True)
class _Contents:
    """What one source has: its format, its number of records, and each readable record with its place."""

    format: str
    records: int
    found: Sequence[tuple[str, RolloutSet]]
    rejects: Sequence[Reject]
    notes: Sequence[str] = ()


def read_rollouts(
    sources: Sequence[str], *, format: str | None = None, images: Path | None = None, limit: int | None = None
) -> RolloutFileResult:
    """Reads candidates. Those of one question may be in several records and files.

    Args:
        sources: Files, folders, or datasets of the hub, all of one format. A folder may be a run of this package.
        format: The format's name; None to detect it from the fields of the records.
        images: The folder that names of images are relative to; None for the folder of each file.
        limit: Keeps only the first questions.

    Raises:
        AtomThinkError: A source cannot be read, the format is unknown, or no record can be used.
    """
    if format not in (None, RUN, *ROLLOUT_FORMATS):
        raise AtomThinkError(f"`--from {format}`: the formats are {', '.join((RUN, *ROLLOUT_FORMATS))}")
    _require_different(sources)
    files = frozenset(map(_stem, sources))
    parts = [_contents(source, format, images, files) for source in sources]
    formats = dict.fromkeys(part.format for part in parts)
    if len(formats) > 1:
        raise AtomThinkError(f"the files have different formats ({', '.join(formats)}). Read them one by one")
    merged, contradicting = merge_sets(record for part in parts for record in part.found)
    sets, broken = _with_images(merged[:limit])
    rejects = [*(reject for part in parts for reject in part.rejects), *contradicting, *broken]
    records = sum(part.records for part in parts)
    if not sets:
        raise nothing_usable(", ".join(sources), rejects)
    if rejects:
        log.warning("%s: %d of %d records are rejected", ", ".join(sources), len(rejects), records)
    notes = tuple(note for part in parts for note in part.notes)
    return RolloutFileResult(next(iter(formats)), tuple(sets), records, tuple(rejects), notes)


def _require_different(sources: Sequence[str]) -> None:
    """Raises AtomThinkError if a source is given twice: its candidates would count twice."""
    places = Counter(Path(source).expanduser().resolve() for source in sources)
    if repeated := [str(place) for place, count in places.items() if count > 1]:
        raise AtomThinkError(f"{repeated[0]} is given twice. Leave one out, or its candidates would count twice")


def _stem(source: str) -> str:
    return Path(source).name.removesuffix(".gz").rpartition(".")[0]


def _contents(source: str, format: str | None, images: Path | None, files: Collection[str]) -> _Contents:
    folder = Path(source).expanduser()
    if format == RUN or (format is None and _is_run(folder)):
        run = read(folder)
        if format == RUN or any(question.entry is not None for question in run.questions):
            return _of_run(run)
        samples = sorted(map(str, folder.rglob("*_samples_*.jsonl")))
        return _of_rows(source, [row for file in samples for row in rollout_rows(file, images)], format, files)
    return _of_rows(source, list(rollout_rows(source, images)), format, files)


def _is_run(folder: Path) -> bool:
    return folder.is_dir() and (is_journal(folder) or any(folder.rglob("[0-9]*_[0-9]*_results.json")))


def _of_run(run: RecordedRun) -> _Contents:
    parts = list(run_sets(run))
    rejects = [part for part in parts if isinstance(part, Reject)]
    found = [part for part in parts if not isinstance(part, Reject)]
    notes = [f"{run.name}: {note}" for note in run.missing]
    if any(one.pictures for _, one in found):
        notes.append(f"{run.name}: the images are the thumbnails of its journal, which are smaller than the originals")
    return _Contents(RUN, len(parts), found, rejects, notes)


def _of_rows(source: str, rows: Sequence[SourceRow | Reject], format: str | None, files: Collection[str]) -> _Contents:
    rejects = [row for row in rows if isinstance(row, Reject)]
    usable = [row for row in rows if isinstance(row, SourceRow)]
    name = format or _detected(source, usable, rejects)
    reader = ROLLOUT_FORMATS[name]
    used = reader.arranged(usable, files)
    found: list[tuple[str, RolloutSet]] = []
    for row in used:
        try:
            sets = list(reader.read(row))
            if not all(one.candidates for one in sets):
                raise ValueError("it has no candidates")
            found += [(row.where, one) for one in sets]
        except ValueError as error:
            rejects.append(Reject(row.where, describe_error(error), row.fields))
    notes = reader.notes([one for _, one in found])
    if len(used) < len(usable):
        notes.append(f"{source}: {len(usable) - len(used)} records repeat others and are not used")
    return _Contents(name, len(used) + len(rows) - len(usable), found, rejects, notes)


def _detected(source: str, usable: Sequence[SourceRow], rejects: Sequence[Reject]) -> str:
    for row in usable:
        for name, reader in ROLLOUT_FORMATS.items():
            if reader.fields <= row.fields.keys():
                return name
    if not usable:
        raise nothing_usable(source, rejects)
    raise AtomThinkError(
        f"{source}: the format cannot be detected from the fields of its records ({', '.join(usable[0].fields)}). "
        f"Choose it with `--from {'|'.join(ROLLOUT_FORMATS)}`"
    )


def _with_images(sets: Sequence[RolloutSet]) -> tuple[list[RolloutSet], list[Reject]]:
    """Returns the questions whose images can be decoded, and the others."""
    faults = image_faults([[(_name(picture), picture) for picture in one.pictures] for one in sets])
    pairs = list(zip(sets, faults, strict=True))
    broken = [Reject(f"question {one.id!r}", fault, one.record) for one, fault in pairs if fault]
    return [one for one, fault in pairs if not fault], broken


def _name(picture: Picture) -> str:
    return str(picture) if isinstance(picture, Path) else f"of {len(picture)} bytes"
