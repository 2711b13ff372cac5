"""The contract of a reader of candidates."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from atomthink_plugin.json_rows import describe_error
from atomthink_plugin.rollouts.rollout_set import RolloutSet
from atomthink_plugin.source_rows import SourceRow


def no_notes(sets: Sequence[RolloutSet]) -> list[str]:
    """Returns none: the format has no peculiarities."""
    return []


class RolloutReader(NamedTuple):
    """A format: the fields by which its records are recognised, and the function that reads a record.

    A record that cannot be read raises ValueError; its reason is counted. Records of one question are merged later.

    Attributes:
        fields: The fields that every record has.
        read: Returns the questions of a record. One without a text only adds scores to the candidates of others.
        key: Fields with the same values in records of a file that repeat each other. Only one of them is used.
        latest: Whether it is the last of them, because a resumed run appends; else the first.
        order: A field with the number of the candidate, if a file may have them in another order.
        log: Ending of the names of files that hold the candidates of another file once more, one by one. They are not
            used where that file is read as well.
        notes: Returns what the user has to know about the questions of a file.
    """

    fields: frozenset[str]
    read: Callable[[SourceRow], Iterable[RolloutSet]]
    key: tuple[str, ...] = ()
    latest: bool = False
    order: str = ""
    log: str = ""
    notes: Callable[[Sequence[RolloutSet]], list[str]] = no_notes

    def arranged(self, rows: Sequence[SourceRow], files: Collection[str] = ()) -> list[SourceRow]:
        """Returns the rows of a source without repeated records, in the order of the candidates.

        Args:
            rows: The rows.
            files: Names of all files that are read, without their endings.
        """
        kept = list(rows)
        if self.log:
            whole = {*files, *(row.split for row in rows)}
            logs = {f"{name}{self.log}" for name in whole}
            kept = [row for row in kept if row.split not in logs]
        if self.key:
            found: dict[str, SourceRow] = {}
            for row in reversed(kept) if self.latest else kept:
                found.setdefault(repr((row.split, *(row.fields.get(name) for name in self.key))), row)
            unique = {id(row) for row in found.values()}
            kept = [row for row in kept if id(row) in unique]
        if not self.order:
            return kept
        files = {split: at for at, split in enumerate(dict.fromkeys(row.split for row in kept))}
        return sorted(kept, key=lambda row: (files[row.split], self._number(row)))

    def _number(self, row: SourceRow) -> int:
        number = row.fields.get(self.order)
        return number if isinstance(number, int) else 0


class PublishedRecord(BaseModel):
    """The fields that a reader needs of a published record. Others are ignored, and numbers are taken as text."""

    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)

    @classmethod
    def of_field(cls, fields: Mapping[str, Any], name: str) -> Self:
        """Returns the record in a field.

        Raises:
            ValueError: There is none, or it is not valid. The message names the field.
        """
        try:
            return cls.model_validate(fields[name])
        except KeyError:
            raise ValueError(f"{name}: missing") from None
        except ValidationError as error:
            raise ValueError(f"{name}: {describe_error(error)}") from None
