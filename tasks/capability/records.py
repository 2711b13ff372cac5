"""The files: reference chains come in, records of atomic steps go out; one JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, TypeVar

from annotated_types import MinLen
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from atomthink_plugin.answers import equivalent, final_answer
from atomthink_plugin.api import AtomThinkError

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Line = TypeVar("Line", bound=BaseModel)


class Chain(BaseModel):
    """A reference chain; fields that are not ours are left alone.

    Attributes:
        id: Unique in its file.
        question: As it is asked, options included.
        images: Files, relative to the chains' own.
        steps: The right steps, in order.
        answer: The right answer.
    """

    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)

    id: Text
    question: Text
    images: tuple[str, ...] = ()
    steps: Annotated[tuple[Text, ...], MinLen(1)]
    answer: Text


class StepRecord(BaseModel):
    """One prefix of a reference chain, with what its last step does.

    Attributes:
        id: Chain and number of steps.
        chain: The chain's id; prefixes of one chain stand or fall together.
        question: As it is asked.
        images: Files, relative to the records' own.
        answer: The right answer.
        history: The steps from the first to the one that is meant.
        ability: What the last step of the history takes, by its name in the taxonomy.
        behaviour: The cluster that step is in.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    id: Text
    chain: Text
    question: Text
    images: tuple[str, ...] = ()
    answer: Text
    history: Annotated[tuple[Text, ...], MinLen(1)]
    ability: Text
    behaviour: str = ""


def read_chains(file: Path) -> list[Chain]:
    """Returns the chains of a JSONL file.

    Raises:
        AtomThinkError: A line cannot be read, an image is missing, or a chain concludes with another answer than its
            own; names file and line.
    """
    chains = _read(file, Chain)
    for chain in chains:
        _same_answer(file, chain.id, chain.steps[-1], chain.answer)
    return chains


def read_records(file: Path) -> list[StepRecord]:
    """Returns the records of a JSONL file.

    Raises:
        AtomThinkError: As `read_chains`.
    """
    records = _read(file, StepRecord)
    for record in records:
        _same_answer(file, record.id, record.history[-1], record.answer)
    return records


def write_lines(file: Path, lines: Iterable[BaseModel]) -> None:
    """Writes one JSON object per line.

    Raises:
        AtomThinkError: The file cannot be written.
    """
    try:
        with file.open("w", encoding="utf-8") as out:
            for line in lines:
                out.write(line.model_dump_json() + "\n")
    except OSError as error:
        raise AtomThinkError(f"`--out {file}` cannot be written: {error.strerror}") from None


def _read(file: Path, kind: type[Line]) -> list[Line]:
    lines = list(_parsed(file, kind))
    if not lines:
        raise AtomThinkError(f"{file} has no lines")
    seen: set[str] = set()
    for line in lines:
        if (identity := str(getattr(line, "id"))) in seen:  # noqa: B009
            raise AtomThinkError(f"{file}: the id {identity!r} is there twice")
        seen.add(identity)
        for image in getattr(line, "images"):  # noqa: B009
            if not (file.parent / image).is_file():
                raise AtomThinkError(f"{file}: {identity}: there is no image {file.parent / image}")
    return lines


def _same_answer(file: Path, identity: str, step: str, answer: str) -> None:
    concluded = final_answer(step)
    if concluded is not None and not equivalent(concluded, answer):
        raise AtomThinkError(f"{file}: {identity} concludes with {concluded!r} and its answer is {answer!r}")


def _parsed(file: Path, kind: type[Line]) -> Iterator[Line]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AtomThinkError(f"{file} cannot be read: {error}") from None
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield kind.model_validate(json.loads(line))
        except ValidationError as error:
            fault = error.errors()[0]
            raise AtomThinkError(f"{file} line {number}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None
        except ValueError as error:
            raise AtomThinkError(f"{file} line {number} is no JSON: {error}") from None
