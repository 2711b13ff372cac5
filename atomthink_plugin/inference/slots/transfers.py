"""Copies between host and device during which neither waits for the other."""

from __future__ import annotations

import torch


def sent(numbers: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Returns numbers of the host on a device."""
    return numbers.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else numbers.to(device)


class Fetched:
    """Tensors on their way to the host, as they were when the copy was asked for.

    Args:
        tensors: On the device; on a CPU they must not change later.
    """

    def __init__(self, *tensors: torch.Tensor) -> None:
        self._tensors = [tensor.to("cpu", non_blocking=True) for tensor in tensors]
        self._arrived: torch.cuda.Event | None = None
        if tensors[0].is_cuda:
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record()

    def wait(self) -> list[torch.Tensor]:
        """Returns the tensors once they have arrived."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._tensors
