"""A decode step can be captured: the host never waits for a value, and no shape differs from the step before."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from atomthink_plugin.inference.sampling import Draw
from atomthink_plugin.inference.slots import varlen_attention
from atomthink_plugin.inference.slots.decode_graph import DecodeGraph
from atomthink_plugin.inference.slots.decode_runner import DecodeRunner, DecodeSteps, EagerSteps
from atomthink_plugin.inference.slots.graph_capture import GraphMaker
from tests.inference.slots.flash_standin import flash
from tests.inference.slots.running_rows import StartedRows
from tests.inference.slots.test_decode_runner import again
from tests.tiny_families import SLOTS, checkpoint, encoder

FAMILIES = pytest.mark.parametrize("build", SLOTS)
DRAWS = [Draw(1, 0.7, top_k=4, top_p=0.9, watch=(5,)), Draw(2, 0.0), Draw(3, 1.1, tops=2)]

WAITING = {"_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "_unique2", "item", "equal", "resolve_neg"}
"""Operations whose results the host waits for, or whose shapes depend on values; `tolist` begins with the last one."""

FROM_THE_HOST = {"lift_fresh", "scalar_tensor", "_pin_memory"}
"""Operations by which numbers come from Python."""


@torch.library.custom_op("atomthink_tests::flash", mutates_args=())
def flash_operation(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cuts: torch.Tensor,
    starts: torch.Tensor,
    most: int,
    longest: int,
    causal: bool,
    scale: float,
    seen: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The stand-in as one operation, as the kernel is."""
    found = flash(
        query, key, value, cuts, starts, most, longest, 0.0, causal, False, scale=scale, seqused_k=seen, num_splits=1
    )
    return found[0], found[1].contiguous()


def opaque(*given: Any, scale: float, seqused_k: torch.Tensor, num_splits: int) -> tuple[torch.Tensor, ...]:
    *tensors, dropout, causal, mask = given
    assert (dropout, mask, num_splits) == (0.0, False, 1)
    found: tuple[torch.Tensor, ...] = flash_operation(*tensors, causal, scale, seqused_k)
    return found


class Capturable(TorchDispatchMode):
    """Fails on operations that a CUDA graph cannot hold, and records all others with the shapes that they return."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, Any]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name, named = func.overloadpacket.__name__, kwargs or {}
        crossing = name in ("to", "_to_copy") and named.get("device", args[0].device) != args[0].device
        if name in WAITING | FROM_THE_HOST or crossing or (name in ("index", "index_put_") and _by_mask(args[1])):
            raise AssertionError(f"{func} cannot be captured")
        out = func(*args, **named)
        several = out if isinstance(out, (tuple, list)) else [out]
        self.seen.append((str(func), [tuple(one.shape) for one in several if isinstance(one, torch.Tensor)]))
        return out


def _by_mask(indices: Any) -> bool:
    return any(one is not None and one.dtype in (torch.bool, torch.uint8) for one in indices)


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def recorded(steps: DecodeSteps, rows: int, count: int = 3) -> list[list[tuple[str, Any]]]:
    made = []
    for _ in range(count):
        with Capturable() as seen:
            results = steps.step()
        made.append(seen.seen)
        assert len(results.wait()[0][0]) == rows
    return made


@FAMILIES
def test_the_step_of_a_graph_waits_for_nothing_and_keeps_its_shapes(
    build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(varlen_attention, "_FLASH", opaque)
    maker = GraphMaker(checkpoint(build).model, compiles=False, capture=again)
    made = StartedRows(checkpoint(build), DRAWS, maker, encoder(build))
    graph = DecodeRunner(made.reader).start(made.state, made.rows)
    assert isinstance(graph, DecodeGraph)
    first, *later = recorded(graph, len(DRAWS))
    assert len(first) > 50
    assert all(step == first for step in later)


@FAMILIES
def test_the_step_without_a_graph_waits_for_nothing(build: Any) -> None:
    made = StartedRows(checkpoint(build), DRAWS, encoder=encoder(build))
    steps = EagerSteps(made.reader, made.state, made.rows)
    assert all(len(step) > 50 for step in recorded(steps, len(DRAWS)))


@pytest.mark.parametrize(
    "operation",
    [
        lambda one: bool(one.all()),
        lambda one: one.sum().item(),
        lambda one: one.nonzero(),
        lambda one: one[one > 0],
        lambda one: one.masked_select(one > 0),
        lambda one: one + torch.tensor([1.0, 2.0, 3.0]),
        lambda one: one.tolist(),
        lambda one: one.to("meta"),
    ],
)
def test_the_mode_finds_what_waits(operation: Any) -> None:
    with pytest.raises(AssertionError, match="cannot be captured"), Capturable():
        operation(torch.ones(3).mul(2))
