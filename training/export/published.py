"""The published AMATH-SFT and AMATH-PRM files as chains; every record that cannot be used is set aside."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from atomthink_plugin.formats.steps import SEPARATOR
from atomthink_plugin.training.export.records import PLACE, TAG
from atomthink_plugin.training.images import image_fault
from atomthink_plugin.training.records import Chain, MaybeText, RecordFile, Reject, describe_error, json_rows

_HEADER: Final = "THE GIVEN QUESTION:\n"
_HISTORY: Final = "HISTORICAL REASONING STEPS:"
_TASK: Final = "Your task is to predict the next step"
_SHORT: Final = "Answer the question using a single word or phrase."
_NUMBERED: Final = re.compile(r"\W{0,4}step\s*\d", re.IGNORECASE)
_BEFORE_NUMBER: Final = re.compile(r"\n[ \t]*\n\s*(?=\W{0,4}step\s*\d)", re.IGNORECASE)
_BLANK: Final = re.compile(r"\n[ \t]*\n\s*")
_LABELS: Final[Mapping[Any, float]] = {"+": 1.0, "-": 0.0, "1": 1.0, "0": 0.0, "True": 1.0, "False": 0.0}


class _Turn(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)

    role: str | None = Field(None, alias="from")
    value: MaybeText = ""


class _Sft(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)

    conversations: list[_Turn]
    image: str | list[str] | None = None
    answer: MaybeText = ""

    @property
    def images(self) -> tuple[str, ...]:
        """Names of the pictures."""
        return (self.image,) if isinstance(self.image, str) else tuple(self.image or ())


class _Prm(BaseModel):
    question: str
    process: str
    label: list[str | int | bool]
    image: str | list[str] | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    """A usable SFT record: what the step is behind, and the step."""

    where: str
    question: str
    images: tuple[str, ...]
    answer: str
    history: str
    step: str


@dataclass(frozen=True, slots=True)
class Read:
    """What a published file holds.

    Attributes:
        found: RecordFile[Chain] and rejects; images are relative to the folder of the chains' file.
        records: All records.
        used: Those in a chain; they and the rejects are all.
    """

    found: RecordFile[Chain]
    records: int
    used: int


def read_published(file: Path, images: Path | None, out: Path) -> Read:
    """Returns the chains of a published file, JSON or JSONL, told apart by its fields.

    Args:
        file: AMATH-SFT (`conversations`) or AMATH-PRM (`process`).
        images: What names of pictures are relative to; the file's folder without.
        out: The file that the chains will be in.

    Raises:
        AtomThinkError: The file cannot be read.
    """
    source = images or file.parent
    rejects: list[Reject] = []
    rows: list[_Row] = []
    chains: list[Chain] = []
    records = 0
    for where, record in json_rows(file):
        records += 1
        if isinstance(record, Reject):
            rejects.append(record)
            continue
        try:
            if isinstance(record, dict) and "process" in record:
                chains.append(_labelled(record, f"{file.stem}-{len(chains) + 1}", source, out))
            elif isinstance(record, dict) and "conversations" in record:
                rows.append(_row(record, where, source, out))
            else:
                raise ValueError("neither `conversations` nor `process`: no record of AMATH-SFT or AMATH-PRM")
        except ValidationError as error:
            rejects.append(Reject(where, describe_error(error), record))
        except ValueError as error:
            rejects.append(Reject(where, str(error), record))
    used = len(rows) + len(chains)
    chains += _joined(rows, file.stem)
    return Read(RecordFile(out.parent, chains, rejects), records, used)


# --- AMATH-SFT ---------------------------------------------------------------------------------


def _row(record: Mapping[str, Any], where: str, source: Path, out: Path) -> _Row:
    given = _Sft.model_validate(record)
    roles = [turn.role for turn in given.conversations]
    if roles != ["human", "gpt"]:
        raise ValueError(f"the roles are {roles}, not ['human', 'gpt']")
    asked, step = (turn.value.strip() for turn in given.conversations)
    if not step:
        raise ValueError("the reply is empty")
    if asked.count(PLACE) != len(given.images):
        raise ValueError(f"{asked.count(PLACE)} {PLACE} for {len(given.images)} images")
    images = _images(given.images, source, out)
    question, history = _taken_apart(asked.replace(PLACE, "").strip())
    return _Row(where, question, images, given.answer, history, step)


def _taken_apart(asked: str) -> tuple[str, str]:
    """Returns question and history of a rendered template; older records lack its first line."""
    head, found, rest = asked.rpartition(_HISTORY)
    if not found:
        raise ValueError(f"no {_HISTORY!r} in the prompt")
    history, found, _ = rest.rpartition(_TASK)
    if not found:
        raise ValueError(f"no {_TASK!r} in the prompt")
    question = head.strip().removeprefix(_HEADER.strip()).strip().removesuffix(_SHORT).strip()
    if not question:
        raise ValueError("the question is empty")
    return question, history.strip()


def _joined(rows: Sequence[_Row], stem: str) -> list[Chain]:
    """Returns the longest chains that the records of each problem make, in the order of their first records."""
    problems: dict[tuple[str, tuple[str, ...], str], list[_Row]] = {}
    for row in rows:
        problems.setdefault((row.question, row.images, row.answer), []).append(row)
    chains: list[Chain] = []
    for (question, images, answer), own in problems.items():
        for steps in _longest(own):
            chains.append(
                Chain(id=f"{stem}-{len(chains) + 1}", question=question, images=images, steps=steps, answer=answer)
            )
    return chains


def _longest(rows: Sequence[_Row]) -> list[tuple[str, ...]]:
    """Returns the step sequences of one problem that are no beginning of another."""
    known: dict[str, tuple[str, ...]] = {"": ()}
    inner: set[str] = set()
    for row in sorted(rows, key=lambda row: len(row.history)):
        before = known.get(row.history)
        steps = (*(_steps(row.history) if before is None else before), row.step)
        known[SEPARATOR.join(steps)] = steps
        inner.add(row.history)
    return [steps for text, steps in known.items() if text and text not in inner]


def _steps(text: str) -> tuple[str, ...]:
    """Splits steps: before their numbers where they have some, else at blank lines."""
    parts = (_BEFORE_NUMBER if _NUMBERED.match(text) else _BLANK).split(text)
    return tuple(part.strip() for part in parts if part.strip())


# --- AMATH-PRM ---------------------------------------------------------------------------------


def _labelled(record: Mapping[str, Any], name: str, source: Path, out: Path) -> Chain:
    given = _Prm.model_validate(record)
    *parts, rest = given.process.split(TAG)
    if rest.strip():
        raise ValueError("text behind the last tag (five line breaks), which no label is of")
    if len(parts) != len(given.label):
        raise ValueError(f"{len(given.label)} labels for {len(parts)} tags (five line breaks)")
    steps: list[str] = []
    labels: list[float | None] = []
    for part, label in zip(parts, given.label, strict=True):
        own = _steps(part.strip())
        if not own:
            raise ValueError("no step before a tag")
        if str(label).strip() not in _LABELS:
            raise ValueError(f"the label {label!r} is neither + nor -")
        steps += own
        labels += [*(None for _ in own[1:]), _LABELS[str(label).strip()]]
    pictures = (given.image,) if isinstance(given.image, str) else tuple(given.image or ())
    return Chain(
        id=name,
        question=given.question.replace(PLACE, "").strip(),
        images=_images(pictures, source, out),
        steps=tuple(steps),
        labels=tuple(labels),
    )


# --- pictures ----------------------------------------------------------------------------------


_fault: Final = lru_cache(maxsize=100_000)(image_fault)  # a problem's records share theirs


def _images(names: Sequence[str], source: Path, out: Path) -> tuple[str, ...]:
    for name in names:
        fault = _fault(source / name)
        if fault:
            raise ValueError(f"image {name}: {fault}")
    return tuple(os.path.relpath((source / name).resolve(), out.resolve().parent) for name in names)
