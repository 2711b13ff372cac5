"""What holds around every forward pass of a policy or a process reward model in this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from atomthink_plugin.inference.checkpoints import Checkpoint

_guard = threading.Lock()
_running = 0
_before = True


@contextmanager
def forward_passes(checkpoint: Checkpoint) -> Iterator[None]:
    """A context for inference with `checkpoint`: its lock is held, without gradients and cuDNN attention.

    On CUDA each model has a stream of its own, so that a policy and a process reward model run at the same time.

    Args:
        checkpoint: The model that runs.
    """
    with checkpoint.lock, torch.inference_mode(), without_cudnn_attention(), _stream_of(checkpoint):
        yield


def _stream_of(checkpoint: Checkpoint) -> AbstractContextManager[object]:
    stream = checkpoint.stream
    return nullcontext() if stream is None else torch.cuda.stream(stream)


@contextmanager
def without_cudnn_attention() -> Iterator[None]:
    """Keeps torch from choosing cuDNN for attention; flash and memory-efficient kernels remain.

    cuDNN builds an execution plan for every new key length (about 80 ms each on an H200), and a generated token is a
    new length. The switch is global in torch, and a policy and a PRM run in threads of their own: the first to enter
    sets it, the last to leave restores it, so that training in the same process keeps its own choice.
    """
    global _running, _before
    with _guard:
        if _running == 0:
            _before = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
            torch.backends.cuda.enable_cudnn_sdp(False)
        _running += 1
    try:
        yield
    finally:
        with _guard:
            _running -= 1
            if _running == 0:
                torch.backends.cuda.enable_cudnn_sdp(_before)
