from typing import Any

import pytest
import torch

from atomthink_plugin.inference.slots import varlen_attention
from atomthink_plugin.inference.slots.pool import PoolShape
from atomthink_plugin.inference.slots.varlen_check import largest_difference, varlen_fault
from tests.inference.slots.flash_standin import flash

SHAPE = PoolShape(2, 2, 8, 8, torch.float32, torch.device("cpu"))


def test_a_kernel_as_documented_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(varlen_attention, "_FLASH", flash)
    assert largest_difference(SHAPE, 1) < 1e-5
    assert largest_difference(SHAPE, 3) < 1e-5


def causal_from_the_top(*given: Any, **named: Any) -> Any:
    return flash(*given[:8], False, *given[9:], **named)


def one_key_less(*given: Any, seqused_k: torch.Tensor, **named: Any) -> Any:
    return flash(*given, seqused_k=(seqused_k - 1).clamp(min=1), **named)


def sums_of_rows(*given: Any, **named: Any) -> Any:
    out, lse, *rest = flash(*given, **named)
    return out, lse.T.reshape(lse.shape), *rest


@pytest.mark.parametrize("kernel", [causal_from_the_top, one_key_less, sums_of_rows])
def test_another_kernel_does_not(kernel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(varlen_attention, "_FLASH", kernel)
    assert largest_difference(SHAPE, 1) > 0.5


def test_what_the_kernel_cannot_do_is_not_tried() -> None:
    half = PoolShape(2, 2, 8, 8, torch.bfloat16, torch.device("cpu"))
    assert "float32" in str(varlen_fault(SHAPE, 1))
    assert "width 12" in str(varlen_fault(PoolShape(2, 2, 12, 12, torch.bfloat16, torch.device("cpu")), 1))
    assert "width 4" in str(varlen_fault(PoolShape(2, 2, 8, 4, torch.bfloat16, torch.device("cpu")), 1))
    assert varlen_fault(half, 1) is not None  # the CPU has no such kernel
