"""The contract of a reader of candidates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from atomthink_plugin.rollouts.rollout_set import RolloutSet


@dataclass(frozen=True, slots=True)
class RolloutRecord:
    """A record of a file of candidates.

    Attributes:
        where: File and line or index, for messages.
        folder: What file names in the record are relative to.
        fields: Values by name.
    """

    where: str
    folder: Path
    fields: Mapping[str, Any]


class RolloutReader(NamedTuple):
    """A format: the fields by which its records are recognised, and the function that reads a record.

    A record that cannot be read raises ValueError; its reason is counted. Records of one question are merged later.
    """

    fields: frozenset[str]
    read: Callable[[RolloutRecord], Iterable[RolloutSet]]
