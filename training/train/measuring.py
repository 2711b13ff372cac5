"""Measures the records of a training before its first step, in the processes that prepare its rows later."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, TypeVar

import torch
from torch.utils.data import DataLoader

from atomthink_plugin.api import AtomThinkError

R = TypeVar("R")
M = TypeVar("M")

_PART: Final = 256
"""Records that a process gets at a time."""


def measured(records: Sequence[R], measure: Callable[[R], M], workers: int) -> Iterator[M | AtomThinkError]:
    """Yields what `measure` returns for each record, in their order, or the error that it raises.

    Args:
        records: What is measured.
        measure: Asked for each record; must be picklable where processes are not forked.
        workers: Processes; 0 measures in this one.
    """
    parts: DataLoader[R] = DataLoader(
        records,  # type: ignore[arg-type]  # any sequence will do
        batch_size=_PART,
        num_workers=workers,
        collate_fn=partial(_part, measure),
        generator=torch.Generator(),  # or it would draw from the one that new weights come from
    )
    for part in parts:
        yield from part


def _part(measure: Callable[[R], M], records: Sequence[R]) -> list[M | AtomThinkError]:
    return [_one(measure, record) for record in records]


def _one(measure: Callable[[R], M], record: R) -> M | AtomThinkError:
    try:
        return measure(record)
    except AtomThinkError as error:
        return error
