"""Pads rows to one batch with labels.

The collators of transformers and trl are not used: they do not mix rows with and without images in one batch, and do
not know Mllama's cross attention masks and a PRM's labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch.nn.functional import pad

from atomthink_plugin.inference.encoding import CROSS, Encoding
from atomthink_plugin.training.train.tokens import TrainingRow

IGNORED: Final = -100
"""The label of a position without a loss, as in torch and transformers."""

Batch = dict[str, Any]
"""Tensors, and the lists of some processors."""


def collate(
    rows: Sequence[TrainingRow], pad_id: int, spare: Encoding | None = None, label_names: Sequence[str] = ("labels",)
) -> Batch:
    """Returns rows as one batch on the CPU, padded on the right.

    Rows with and without images share it. Images of different numbers of tiles are padded with empty tiles, as
    processors do themselves. A model with cross attention to images (Mllama) gets an empty, masked image for rows
    without one.

    Args:
        rows: At least one.
        pad_id: Fills short rows.
        spare: A sequence with an image, appended without labels if no row has an image. Processes that share a model's
            weights (FSDP, DeepSpeed) must run the same layers at the same time: a process without any image would skip
            its vision tower, and the others would wait for ever.
        label_names: Attributes of `TrainingRow` that the batch gets.

    Returns:
        The model's inputs `[rows, longest, ...]`, images along their first dimension, lists with one entry per image,
        and each of `label_names` `[rows, longest]`, `IGNORED` where there is no loss.
    """
    encodings = [row.encoding for row in rows]
    if spare is not None and not any(encoding.media for encoding in encodings):
        encodings.append(spare)
    batch = _media(encodings) | _tokens(encodings, max(encoding.length for encoding in encodings), pad_id)
    for name in label_names:
        kind = torch.long if name == "labels" else torch.float
        batch[name] = torch.full_like(batch["input_ids"], IGNORED, dtype=kind)
        for at, row in enumerate(rows):
            if labels := getattr(row, name):
                batch[name][at, list(labels)] = torch.tensor(list(labels.values()), dtype=kind)
    return batch | _lists(encodings)


def _tokens(encodings: Sequence[Encoding], longest: int, pad_id: int) -> Batch:
    names = {name for encoding in encodings for name in encoding.tokens}
    batch = {}
    for name in sorted(names):
        fill = pad_id if name == "input_ids" else 0
        given = [encoding.tokens[name] for encoding in encodings if name in encoding.tokens]
        shape = (1, longest, *_largest(given)[2:])
        values = [encoding.tokens.get(name, given[0].new_zeros(shape)) for encoding in encodings]
        batch[name] = torch.cat([_padded(value, shape, fill) for value in values])
    return batch


def _media(encodings: Sequence[Encoding]) -> Batch:
    """Concatenates images; a model that takes them row by row gets empty ones for rows without."""
    by_row = any(CROSS in encoding.tokens for encoding in encodings)
    names = {name for encoding in encodings for name in encoding.media}
    batch = {}
    for name in sorted(names):
        given = [encoding.media[name] for encoding in encodings if name in encoding.media]
        shape = _largest(given)
        empty = given[0].new_zeros((1, *shape[1:]))
        wanted = [encoding.media.get(name, empty) for encoding in encodings] if by_row else given
        batch[name] = torch.cat([_padded(value, (len(value), *shape[1:]), 0) for value in wanted])
    return batch


def _lists(encodings: Sequence[Encoding]) -> Batch:
    names = {name for encoding in encodings for name in encoding.lists}
    return {name: [entry for encoding in encodings for entry in encoding.lists.get(name, ())] for name in sorted(names)}


def _largest(values: Sequence[torch.Tensor]) -> tuple[int, ...]:
    return tuple(max(sizes) for sizes in zip(*(value.shape for value in values), strict=True))


def _padded(value: torch.Tensor, shape: Sequence[int], fill: int) -> torch.Tensor:
    gaps = [gap for have, want in zip(value.shape, shape, strict=True) for gap in (want - have, 0)]
    return pad(value, gaps[::-1], value=fill) if any(gaps) else value
