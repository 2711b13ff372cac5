"""The searches that `gpu_search_cost.py` measures, the most important first."""

from __future__ import annotations

import asyncio
import gc
import math
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal
from unittest import mock

import torch

from atomthink_plugin.api import Question
from atomthink_plugin.inference import forward_passes
from benchmarks.baselines import Arm, Ours, Published, Setting, Way, run
from benchmarks.gpu_decode_step import wait
from benchmarks.gpu_generate import plain_generate

SPREAD = 0.5
"""Standard deviation of a log-normal length's logarithm, about that of real steps."""

Lengths = Literal["fixed", "lognormal"]
Name = Literal["ours", "published way", "plain generate"]


@dataclass(frozen=True)
class Measurement:
    """One search to measure."""

    way: Name
    lengths: Lengths
    in_flight: int = 1
    cudnn: bool = False


def order(in_flight: Sequence[int]) -> list[Measurement]:
    """Returns all measurements, the most important first: of the second number in flight, then of the third."""
    numbers = sorted(set(in_flight))
    first = numbers[1] if len(numbers) > 1 else numbers[0]
    second = numbers[2] if len(numbers) > 2 else numbers[0]
    ours, drawn = (partial(Measurement, "ours", lengths) for lengths in ("fixed", "lognormal"))
    plain = partial(Measurement, "plain generate", "fixed")
    planned = [
        ours(first),
        Measurement("published way", "fixed"),
        ours(second),
        drawn(first),
        drawn(second),
        Measurement("published way", "lognormal"),
        *(measure(number) for number in reversed(numbers) for measure in (ours, drawn)),
        plain(first),
        plain(second),
        ours(first, cudnn=True),
        Measurement("published way", "fixed", cudnn=True),
    ]
    return list(dict.fromkeys(planned))


@contextmanager
def kernels(cudnn: bool) -> Iterator[None]:
    """Gives both implementations the same attention kernels; ours disables cuDNN's by itself."""
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(cudnn)
    try:
        with mock.patch.object(forward_passes, "without_cudnn_attention", nullcontext):
            yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


def drawn_length(mean: int, seed: int) -> int:
    """Returns a log-normal length of that mean, at most three times as long."""
    length = random.Random(seed).lognormvariate(math.log(mean) - SPREAD**2 / 2, SPREAD)
    return max(1, min(3 * mean, round(length)))


class Searches:
    """Runs the searches of all measurements: ours in one engine, so that graphs are captured once.

    Args:
        setting: Both models.
        questions: Enough for all searches.
    """

    def __init__(self, setting: Setting, questions: Sequence[Question]) -> None:
        self.setting = setting
        self._ours: Ours | None = None
        self._waiting = iter(questions)

    def measure(self, wanted: Measurement) -> dict[str, Any]:
        """Returns what one search took, and the most memory it held on the device."""
        device = self.setting.policy.device
        setting = self.setting
        if wanted.lengths == "lognormal":
            setting = replace(setting, lengths=partial(drawn_length, setting.sampling.max_tokens))
        with kernels(wanted.cudnn):
            if wanted.way == "ours":
                found = self._run_ours(setting, wanted.in_flight)
            elif wanted.way == "published way":
                found = self._run_published(setting)
            else:
                self.close()  # its keys and values need the memory
                plain_generate(setting, self.questions(1), 1)
                _reset_peak(device)
                found = plain_generate(setting, self.questions(wanted.in_flight), setting.levels)
                found["questions"] = wanted.in_flight
        peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
        described = {"way": wanted.way, "lengths": wanted.lengths, "in_flight": wanted.in_flight}
        return {**described, "cudnn_attention": wanted.cudnn, "peak_gib": peak / 2**30, **found}

    def busy(self, in_flight: int) -> float | None:
        """Returns the share of a short search in which the device ran any kernel."""
        if self.setting.policy.device.type != "cuda":
            return None
        from torch.autograd import DeviceType
        from torch.profiler import ProfilerActivity, profile

        ours, questions = self._engine(), self.questions(2 * in_flight)
        wait(self.setting.policy.device)
        began = time.perf_counter()
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            asyncio.run(run(ours, questions, 2, Arm("profiled"), in_flight))
            wait(self.setting.policy.device)
            taken = time.perf_counter() - began
        kernels = [event.time_range for event in seen.events() if event.device_type == DeviceType.CUDA]
        spans = [(one.start, one.end) for one in kernels]
        return union(spans) / 1e6 / taken

    def close(self) -> None:
        """Frees the memory of our engine."""
        self._ours = None
        gc.collect()
        if self.setting.policy.device.type == "cuda":
            torch.cuda.empty_cache()

    def questions(self, number: int) -> list[Question]:
        """Returns questions that no search has had: nothing of them is kept."""
        return [next(self._waiting) for _ in range(number)]

    def _engine(self) -> Ours:
        if self._ours is None:
            self._ours = Ours(self.setting)
        return self._ours

    def _run_ours(self, setting: Setting, in_flight: int) -> dict[str, Any]:
        ours, device = self._engine(), setting.policy.device
        ours.lengths = setting.lengths
        # Kernels are chosen and compiled, and graphs captured, at their first use.
        asyncio.run(run(ours, self.questions(in_flight), 1, Arm("warm"), in_flight))
        before, graphs = {name: clock.work() for name, clock in ours.clocks.items()}, _captured(ours)
        _reset_peak(device)
        arm, asked = Arm("ours"), self.questions(2 * in_flight)
        asyncio.run(run(ours, asked, setting.levels, arm, in_flight))
        wait(device)
        worked = {name: clock.work().since(before[name]) for name, clock in ours.clocks.items()}
        passes = worked["policy"].phases["decode"].passes if "decode" in worked["policy"].phases else {}
        pools = [reader.pool.keys.nbytes + reader.pool.values.nbytes for reader in ours.readers.values()]
        return {
            **_cost(arm, ours),
            "rows_at_most": ours.rows,
            "phases": {
                name: {phase: spent.seconds for phase, spent in work.phases.items()} for name, work in worked.items()
            },
            "rows_per_pass": sum(rows * times for rows, times in passes.items()) / max(1, sum(passes.values())),
            "pool_gib": sum(pools) / 2**30,
            "graphs_captured": [graphs, _captured(ours) - graphs],
            "graphs_failed": [name for name, reader in ours.readers.items() if reader.maker.failed],
        }

    def _run_published(self, setting: Setting) -> dict[str, Any]:
        way, device = Published(setting), setting.policy.device
        asyncio.run(run(way, self.questions(1), 1, Arm("warm")))
        _reset_peak(device)
        arm = Arm("published way")
        asyncio.run(run(way, self.questions(1), setting.levels, arm))
        wait(device)
        return _cost(arm, way)


def _cost(arm: Arm, way: Way) -> dict[str, Any]:
    arm.count(way)
    return {
        "questions": len(arm.policy),
        "tokens_per_second": arm.generated / sum(arm.seconds),
        **arm.numbers(),
    }


def _captured(ours: Ours) -> int:
    return sum(reader.maker.captured for reader in ours.readers.values())


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def union(spans: Sequence[tuple[float, float]]) -> float:
    """Returns the length of all spans together, where they overlap once."""
    covered, reached = 0.0, -math.inf
    for start, end in sorted(spans):
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return covered


def compare(searches: Sequence[dict[str, Any]]) -> None:
    """Adds `speedup` to each of ours whose published twin was measured."""
    same = ("lengths", "cudnn_attention")
    published = {tuple(one[key] for key in same): one for one in searches if one["way"] == "published way"}
    for one in searches:
        twin = published.get(tuple(one[key] for key in same))
        if one["way"] == "ours" and twin is not None:
            one["speedup"] = one["tokens_per_second"] / twin["tokens_per_second"]
