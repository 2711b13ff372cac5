"""The contract of a reader of candidates."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from atomthink_plugin.rollouts.rollout_set import RolloutSet
from atomthink_plugin.source_rows import SourceRow


class RolloutReader(NamedTuple):
    """A format: the fields by which its records are recognised, and the function that reads a record.

    A record that cannot be read raises ValueError; its reason is counted. Records of one question are merged later.
    """

    fields: frozenset[str]
    read: Callable[[SourceRow], Iterable[RolloutSet]]


class PublishedRecord(BaseModel):
    """The fields that a reader needs of a published record. Others are ignored, and numbers are taken as text."""

    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)
