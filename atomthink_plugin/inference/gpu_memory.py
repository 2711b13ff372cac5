"""`gpu_memory`: the share of a GPU's memory that a model may use, and what is left of it for keys and values."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Annotated, Final

import torch
from pydantic import Field

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.inference.batch_size import PER_WORD, BatchSize, batch_limit, token_bytes
from atomthink_plugin.inference.checkpoints import Checkpoint

log = logging.getLogger(__name__)

GpuMemory = Annotated[float, Field(gt=0, le=1)] | None

_LEAST: Final = 4096
"""Tokens of a pool at least."""

_STEP: Final = 64
"""Pools have a multiple of so many tokens."""

_SHARE: Final = 2 / 3
"""Of the free memory, where the user names no share: the first model to run is the policy, and needs most."""


MOST: Final = 384
"""Rows of a running batch at most: those of the largest captured graph."""


def row_limit(batch_size: BatchSize, checkpoint: Checkpoint, cache_gib: float) -> Callable[[], int]:
    """Returns what gives the most rows of a running batch.

    On a GPU their logits alone limit them, because rows without a place in the pool wait.

    Args:
        batch_size: What the user asked for.
        checkpoint: The model.
        cache_gib: As in `batch_limit`, which holds for other devices.
    """
    if batch_size == "auto" and checkpoint.device.type == "cuda":
        return partial(_rows, checkpoint)
    return batch_limit(batch_size, checkpoint, cache_gib)


def _rows(checkpoint: Checkpoint) -> int:
    total = torch.cuda.mem_get_info(checkpoint.device)[1]
    vocabulary = int(checkpoint.model.config.get_text_config().vocab_size)
    return min(MOST, working_memory(total) // 2 // (PER_WORD * vocabulary))


def with_share(checkpoint: Checkpoint, gpu_memory: float | None, argument: str) -> Checkpoint:
    """Returns a checkpoint that may use a share of its GPU; on other devices there is no limit.

    Args:
        checkpoint: The loaded model.
        gpu_memory: The share; None for what is free when the model is first used.
        argument: Name of the user's argument, for the message.

    Raises:
        AtomThinkError: The share is too small for the model.
    """
    if gpu_memory is None or checkpoint.device.type != "cuda":
        return checkpoint
    total = torch.cuda.mem_get_info(checkpoint.device)[1]
    token = token_bytes(checkpoint.model.config, checkpoint.model.dtype.itemsize)
    least = least_share(total, _weights(checkpoint), token)
    if gpu_memory < least:
        raise AtomThinkError(
            f"{argument}={gpu_memory} leaves no room for keys and values of {checkpoint.identity}: it needs at least "
            f"{least:.2f} of this GPU's {total / 2**30:.0f} GiB"
        )
    return replace(checkpoint, gpu_memory=gpu_memory)


def pool_tokens(checkpoint: Checkpoint, token: int) -> int | None:
    """Returns how many tokens the pool of a model has; None for a pool that grows as it is used.

    Args:
        checkpoint: The model. All models of the run are loaded.
        token: Bytes of one token's keys and values.
    """
    device = checkpoint.device
    if device.type != "cuda":
        return None
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free, total = torch.cuda.mem_get_info(device)
    tokens = tokens_that_fit(free + unused, total, checkpoint.gpu_memory, _weights(checkpoint), token)
    if tokens is None:
        log.warning("%.1f GiB free: keys and values of %s have no pool", free / 2**30, checkpoint.identity)
    else:
        log.info("%d tokens of %s in %.1f GiB", tokens, checkpoint.identity, tokens * token / 2**30)
    return tokens


def tokens_that_fit(free: int, total: int, share: float | None, weights: int, token: int) -> int | None:
    """Returns how many tokens a pool has; None if they are too few.

    Args:
        free: Bytes free on the GPU.
        total: Bytes of the GPU.
        share: What the model may use of `total`; None for most of what is free.
        weights: Bytes of the model's weights, which are loaded.
        token: Bytes of one token's keys and values.
    """
    spare = free - working_memory(total)
    room = spare * _SHARE if share is None else min(share * total - weights - working_memory(total), spare)
    tokens = int(room) // token // _STEP * _STEP
    return tokens if tokens >= _LEAST else None


def least_share(total: int, weights: int, token: int) -> float:
    """Returns the smallest share of a GPU with which a model has a pool.

    Args:
        total: Bytes of the GPU.
        weights: Bytes of the model's weights.
        token: Bytes of one token's keys and values.
    """
    return (weights + working_memory(total) + _LEAST * token) / total


def working_memory(total: int) -> int:
    """Returns the bytes of a GPU that are left to a model's intermediate results and captured graphs.

    Args:
        total: Bytes of the GPU.
    """
    return min(6 * 2**30, total // 12)


def _weights(checkpoint: Checkpoint) -> int:
    return sum(tensor.nbytes for tensor in (*checkpoint.model.parameters(), *checkpoint.model.buffers()))
