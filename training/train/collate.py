"""Rows to one padded batch with labels, whatever images they have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch.nn.functional import pad

from atomthink_plugin.inference.encoding import CROSS, Encoding
from atomthink_plugin.training.train.tokens import Row

IGNORED: Final = -100
Batch = dict[str, torch.Tensor]


def inputs_of(encodings: Sequence[Encoding], pad_id: int, spare: Encoding | None = None) -> Batch:
    """Returns sequences as one batch on the CPU, padded on the right.

    Those with and without images share it. Images of different numbers of tiles are padded with empty ones, as
    processors do themselves; a model that looks at images across (Mllama) gets an empty, masked one for rows without.

    Args:
        encodings: At least one.
        pad_id: Fills short rows.
        spare: A sequence with an image, put last where no other has one. Processes that share a model's weights
            (FSDP, DeepSpeed) have to run the same layers at the same time: without any image, one would leave its
            vision tower out and wait for ever.

    Returns:
        The model's inputs `[rows, longest, ...]`, media along their first dimension.
    """
    if spare is not None and not any(encoding.media for encoding in encodings):
        encodings = [*encodings, spare]
    longest = max(encoding.length for encoding in encodings)
    return _media(encodings) | _tokens(encodings, longest, pad_id)


def collate(rows: Sequence[Row], pad_id: int, spare: Encoding | None = None) -> Batch:
    """Returns the rows' inputs as `inputs_of` does, and `labels` `[rows, longest]`: none in a spare row."""
    batch = inputs_of([row.encoding for row in rows], pad_id, spare)
    labels = torch.full_like(batch["input_ids"], IGNORED)
    for at, row in enumerate(rows):
        length = row.encoding.length
        learned = slice(length - row.learned, length)
        labels[at, learned] = row.encoding.tokens["input_ids"][0, learned]
    batch["labels"] = labels
    return batch


def _tokens(encodings: Sequence[Encoding], longest: int, pad_id: int) -> Batch:
    names = {name for encoding in encodings for name in encoding.tokens}
    batch = {}
    for name in sorted(names):
        fill = pad_id if name == "input_ids" else 0
        shape = _largest([encoding.tokens[name] for encoding in encodings if name in encoding.tokens])
        shape = (1, longest, *shape[2:])
        example = next(encoding.tokens[name] for encoding in encodings if name in encoding.tokens)
        values = [encoding.tokens.get(name, example.new_zeros(shape)) for encoding in encodings]
        batch[name] = torch.cat([_grown(value, shape, fill) for value in values])
    return batch


def _media(encodings: Sequence[Encoding]) -> Batch:
    """Images end to end; where a model takes them row by row, rows without get empty ones."""
    by_row = any(CROSS in encoding.tokens for encoding in encodings)
    names = {name for encoding in encodings for name in encoding.media}
    batch = {}
    for name in sorted(names):
        given = [encoding.media[name] for encoding in encodings if name in encoding.media]
        shape = _largest(given)
        empty = given[0].new_zeros((1, *shape[1:]))
        wanted = [encoding.media.get(name, empty) for encoding in encodings] if by_row else given
        batch[name] = torch.cat([_grown(value, (len(value), *shape[1:]), 0) for value in wanted])
    return batch


def _largest(values: Sequence[torch.Tensor]) -> tuple[int, ...]:
    return tuple(max(sizes) for sizes in zip(*(value.shape for value in values), strict=True))


def _grown(value: torch.Tensor, shape: Sequence[int], fill: int) -> torch.Tensor:
    if value.shape == tuple(shape):
        return value
    gaps = [gap for have, want in zip(value.shape, shape, strict=True) for gap in (want - have, 0)]
    return pad(value, gaps[::-1], value=fill)
