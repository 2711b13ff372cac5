"""`batch_size=auto`: as many rows in one forward pass as the free memory of the model's device is expected to hold."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import torch
from pydantic import PositiveInt

if TYPE_CHECKING:
    from atomthink_plugin.inference.checkpoints import Checkpoint

log = logging.getLogger(__name__)

BatchSize = PositiveInt | Literal["auto"]

LEAST: Final = 8
"""Rows at least on a CPU, and on devices whose free memory torch does not report."""

MOST: Final = 128
"""Rows at most: beyond, a GPU's time per row hardly falls."""

_MOST_ON_CPU: Final = 256
"""Rows at most on a CPU."""

_CPU_WEIGHTS: Final = 4 * 10**9
"""Weights times rows of a forward pass on a CPU. Beyond, the time is that of arithmetic, and grows with the rows."""

_TOKENS: Final = 1024
"""Tokens expected in a row: an image, a question and a few steps. Longer rows that do not fit halve the batch."""

_COPIES: Final = 2
"""Copies of a row's keys and values at the peak of memory use: when unfinished rows are selected."""

PER_WORD: Final = 64
"""Bytes per row and word of the vocabulary: logits in float32, noise in int64, their intermediate results."""


def batch_limit(batch_size: int | Literal["auto"], checkpoint: Checkpoint, cache_gib: float) -> Callable[[], int]:
    """Returns what gives the batch's limit at the first batch: by then policy and PRM are both loaded.

    Args:
        batch_size: What the user asked for.
        checkpoint: The model that runs.
        cache_gib: GiB of keys and values that it keeps between batches.
    """
    if batch_size == "auto":
        return partial(_measured, checkpoint, int(cache_gib * 2**30))
    return lambda: batch_size


def _measured(checkpoint: Checkpoint, kept: int) -> int:
    device = checkpoint.device
    if device.type != "cuda":
        return cpu_rows(sum(weights.numel() for weights in checkpoint.model.parameters()))
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = torch.cuda.mem_get_info(device)[0] + unused
    rows = rows_that_fit(free, kept, row_bytes(checkpoint.model.config, checkpoint.model.dtype.itemsize))
    log.info("batch_size=auto: %d rows of %s, with %.1f GiB free", rows, checkpoint.identity, free / 2**30)
    return rows


def cpu_rows(weights: int) -> int:
    """Returns how many rows to run at once without a GPU, from `LEAST` to 256.

    Args:
        weights: Number of weights of the model.
    """
    return min(_MOST_ON_CPU, max(LEAST, _CPU_WEIGHTS // weights))


def rows_that_fit(free: int, kept: int, row: int) -> int:
    """Returns how many rows to run at once, from 1 to `MOST`.

    Args:
        free: Bytes free on the device, half of which are left to another model (policy or PRM) on it.
        kept: Bytes of keys and values that will be kept between batches.
        row: Bytes of one row, see `row_bytes`.
    """
    return min(MOST, max(1, (free // 2 - kept) // row))


def row_bytes(config: Any, itemsize: int) -> int:
    """Returns the bytes that a row of usual length takes while it is generated.

    Args:
        config: The model's.
        itemsize: Bytes of one number in its precision.
    """
    text = config.get_text_config()
    return _COPIES * _TOKENS * token_bytes(config, itemsize) + PER_WORD * int(text.vocab_size)


def token_bytes(config: Any, itemsize: int) -> int:
    """Returns the bytes of one token's keys and values in all layers.

    Args:
        config: The model's.
        itemsize: Bytes of one number in its precision.
    """
    text = config.get_text_config()
    heads = getattr(text, "num_attention_heads", None) or 1
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    return int(2 * text.num_hidden_layers * (getattr(text, "num_key_value_heads", None) or heads) * width * itemsize)
