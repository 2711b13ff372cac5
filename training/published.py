"""Reads published AMATH-SFT, AMATH-PRM and LLaVA-CoT-100k records as chains."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, count, islice
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict

from atomthink_plugin.formats.steps import SEPARATOR
from atomthink_plugin.inference.image_input import image_fault
from atomthink_plugin.json_rows import Reject, describe_error, nothing_usable
from atomthink_plugin.report.output_files import seen_from
from atomthink_plugin.source_rows import SourceRow, open_source
from atomthink_plugin.text_fields import MaybeText
from atomthink_plugin.training.export import PUBLISHED_FILE, TAG
from atomthink_plugin.training.images import PLACEHOLDER
from atomthink_plugin.training.llava_cot import Turn, chains_of, has_stages
from atomthink_plugin.training.records import (
    Chain,
    ErrorKind,
    count_reasons,
    sibling_file,
    write_records,
    write_rejects,
)

_HEADER: Final = "THE GIVEN QUESTION:"
_HISTORY: Final = "HISTORICAL REASONING STEPS:"
_TASK: Final = "Your task is to predict the next step"
_SHORT: Final = "Answer the question using a single word or phrase."
_NUMBERED: Final = re.compile(r"\W{0,4}step\s*\d", re.IGNORECASE)
_BEFORE_NUMBER: Final = re.compile(r"\n[ \t]*\n\s*(?=\W{0,4}step\s*\d)", re.IGNORECASE)
_BLANK_LINE: Final = re.compile(r"\n[ \t]*\n\s*")
_LABELS: Final = {"+": 1.0, "-": 0.0, "1": 1.0, "0": 0.0, "True": 1.0, "False": 0.0}

_REASONS: Final = 5  # printed, the most frequent first

_fault: Final = lru_cache(maxsize=100_000)(image_fault)  # all records of a problem have the same images


class _Record(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)

    image: str | list[str] | None = None

    def images(self, folder: Path, out: Path) -> tuple[str, ...]:
        """Returns the images as the file `out` names them. Raises ValueError if one cannot be decoded."""
        names = [self.image] if isinstance(self.image, str) else self.image or []
        for name in names:
            if fault := _fault(folder / name):
                raise ValueError(f"image {name}: {fault}")
        return seen_from(out, folder, names)


class _SftRecord(_Record):
    conversations: list[Turn]
    answer: MaybeText = ""


class _PrmRecord(_Record):
    question: str
    process: str
    label: list[str | int | bool]
    error_kind: ErrorKind | None = None


class _SftStep(NamedTuple):
    """A usable SFT record: a problem, the text of the steps so far, and the next step."""

    problem: tuple[str, tuple[str, ...], str]  # question, images, answer
    history: str
    step: str


def import_published(source: str, out: Path, images: Path | None = None) -> None:
    """Writes published records as chains and prints a summary.

    A record of AMATH-PRM is a chain. Records of AMATH-SFT are joined where the history of one is the end of another.
    Each reply of a row of LLaVA-CoT-100k is a chain of stages.

    The arguments are those of `atomthink data read`.

    Raises:
        AtomThinkError: A file cannot be read or written, or no record can be used.
    """
    written = [file for name in PUBLISHED_FILE.values() if (file := Path(source) / name).is_file()]
    if len(written) == 1:  # a folder of `data sft`, `prm` or `stages`; its parquet files have the same records again
        source = str(written[0])
    stem = Path(source).stem
    rejects: list[Reject] = []
    steps: list[_SftStep] = []
    chains: list[Chain] = []
    taken: set[str] = set()
    for row in open_source(source, all_splits=True).rows:
        if isinstance(row, Reject):
            rejects.append(row)
            continue
        folder = images or row.folder
        try:
            if has_stages(row.fields):
                found = list(_stage_chains(row, folder, out, taken))
                chains += [one for one in found if isinstance(one, Chain)]
                rejects += [one for one in found if isinstance(one, Reject)]
            elif "process" in row.fields:
                chains.append(_prm_chain(row, f"{stem}-{len(chains) + 1}", folder, out))
            elif "conversations" in row.fields:
                steps.append(_sft_step(row, folder, out))
            else:
                raise ValueError("neither `conversations` (AMATH-SFT, LLaVA-CoT-100k) nor `process` (AMATH-PRM)")
        except ValueError as error:
            rejects.append(Reject(row.where, describe_error(error), row.fields))
    used = len(chains) + len(steps)
    chains += _joined(steps, stem)
    rejects_file = sibling_file(out, "rejects.jsonl")
    write_rejects(rejects_file, rejects)
    if not chains:
        raise nothing_usable(source, rejects)
    write_records(out, chains)
    print(f"{used + len(rejects)} records: {used} used, {len(rejects)} rejected ({rejects_file})")
    for reason, number in islice(count_reasons(rejects).items(), _REASONS):
        print(f"  {number} rejected: {reason}")
    print(f"{len(chains)} chains: {out}\nnext: atomthink data quality {out}")


def _stage_chains(row: SourceRow, folder: Path, out: Path, taken: set[str]) -> Iterator[Chain | Reject]:
    """Yields the chains of a row of LLaVA-CoT-100k. An id that occurred before gets a number."""
    images = _Record.model_validate(row.fields).images(folder, out)
    for found in chains_of(row, images):
        if isinstance(found, Reject):
            yield found
            continue
        names = chain([found.id], (f"{found.id}#{number}" for number in count(2)))
        name = next(name for name in names if name not in taken)
        taken.add(name)
        yield found.model_copy(update={"id": name})


def _sft_step(row: SourceRow, folder: Path, out: Path) -> _SftStep:
    record = _SftRecord.model_validate(row.fields)
    roles = [turn.role for turn in record.conversations]
    if roles != ["human", "gpt"]:
        raise ValueError(f"the roles are {roles}, not ['human', 'gpt']")
    prompt, step = (turn.value for turn in record.conversations)
    if not step:
        raise ValueError("the reply is empty")
    images = record.images(folder, out)
    if prompt.count(PLACEHOLDER) != len(images):
        raise ValueError(f"{prompt.count(PLACEHOLDER)} {PLACEHOLDER} for {len(images)} images")
    head, found, rest = prompt.replace(PLACEHOLDER, "").rpartition(_HISTORY)
    if not found:
        raise ValueError(f"no {_HISTORY!r} in the prompt")
    history, found, _ = rest.rpartition(_TASK)
    if not found:
        raise ValueError(f"no {_TASK!r} in the prompt")
    question = head.strip().removeprefix(_HEADER).strip().removesuffix(_SHORT).strip()  # older records have no header
    if not question:
        raise ValueError("the question is empty")
    return _SftStep((question, images, record.answer), history.strip(), step)


def _joined(steps: Sequence[_SftStep], stem: str) -> list[Chain]:
    """Returns the longest chains that the records of each problem make, in the order of their first records."""
    problems: dict[tuple[str, tuple[str, ...], str], list[_SftStep]] = {}
    for step in steps:
        problems.setdefault(step.problem, []).append(step)
    found = ((problem, whole) for problem, own in problems.items() for whole in _longest(own))
    return [
        Chain(id=f"{stem}-{number}", question=question, images=images, steps=whole, answer=answer)
        for number, ((question, images, answer), whole) in enumerate(found, start=1)
    ]


def _longest(records: Sequence[_SftStep]) -> list[tuple[str, ...]]:
    """Returns the step sequences of one problem that no other one begins with."""
    known: dict[str, tuple[str, ...]] = {"": ()}
    inner: set[str] = set()
    for record in sorted(records, key=lambda record: len(record.history)):
        before = known.get(record.history)
        steps = (*(_split(record.history) if before is None else before), record.step)
        known[SEPARATOR.join(steps)] = steps
        inner.add(record.history)
    return [steps for text, steps in known.items() if text and text not in inner]


def _split(text: str) -> tuple[str, ...]:
    """Splits steps before their numbers if they are numbered, else at blank lines."""
    parts = (_BEFORE_NUMBER if _NUMBERED.match(text) else _BLANK_LINE).split(text)
    return tuple(part.strip() for part in parts if part.strip())


def _prm_chain(row: SourceRow, name: str, folder: Path, out: Path) -> Chain:
    record = _PrmRecord.model_validate(row.fields)
    *parts, rest = record.process.split(TAG)
    if rest.strip():
        raise ValueError("text after the last tag (five line breaks) has no label")
    if len(parts) != len(record.label):
        raise ValueError(f"{len(record.label)} labels for {len(parts)} tags (five line breaks)")
    steps: list[str] = []
    labels: list[float | None] = []
    for part, label in zip(parts, record.label, strict=True):
        own = _split(part.strip())
        if not own:
            raise ValueError("no step before a tag")
        if str(label).strip() not in _LABELS:
            raise ValueError(f"the label {label!r} is neither + nor -")
        steps += own
        labels += [*(None for _ in own[1:]), _LABELS[str(label).strip()]]
    question, images = record.question.replace(PLACEHOLDER, "").strip(), record.images(folder, out)
    kinds = None if record.error_kind is None else (*(None,) * (len(steps) - 1), record.error_kind)
    return Chain(id=name, question=question, images=images, steps=tuple(steps), labels=tuple(labels), error_kinds=kinds)
