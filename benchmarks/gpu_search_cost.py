"""The cost of a beam search on a GPU with models of 7 B, by questions in flight, and of the published code.

    python -m benchmarks.gpu_search_cost --json benchmarks/results/gpu_search_cost.json
    python -m benchmarks.gpu_search_cost --device cpu --size tiny --in-flight 1 2 --json cost.json  # a quick test

A LLaVA and a text PRM of Qwen2-7B's shape are made on the device with random weights, nothing is downloaded. Both
implementations (`baselines.py`) search with 576 image tokens, B = 2, C = 3 and six levels. Ours answers twice as many
questions as are in flight, the published code one, because it is sequential. Steps have 32 tokens (`fixed`) or a length
drawn from a log-normal distribution with that mean (`lognormal`). Both use the same attention kernels: torch's own,
without cuDNN's. In `cudnn` measurements torch may choose cuDNN's, for both.

Time on a GPU may be limited, so the most important measurements come first, the file is written after each, and none
begins once `--minutes` have passed. The file holds `machine`, `date`, `torch`, `cudnn` (versions), `size`, `minutes`
(of all measurements so far) and:

- `searches`, a list, each with `way` (`ours` or `published way`), `lengths`, `in_flight`, `cudnn_attention`,
  `questions`, `seconds_per_question`, `cpu_seconds_per_question`, `generated` (tokens per question),
  `tokens_per_second`, `rows_at_most` (the batch size, lower than 128 if memory ran out), `peak_gib`, what was read and
  encoded (see `search_cost.py`), and for ours `speedup`: its tokens per second over those of the published way with the
  same lengths and kernels, absent until that was measured.
- `decode_step`: `rows`, `step_ms`, `floor_ms` (what reading the weights once takes: their bytes over the
  bandwidth that a large copy on the device reaches; keys and values are left out), `share_of_floor`,
  `bandwidth_gb_per_second` and `weights_gb`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path as FilePath
from typing import Any, Literal
from unittest import mock

import torch
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel

from atomthink_plugin.api import Path, Question, Sampling
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.inference import forward_passes
from atomthink_plugin.inference.checkpoints import Checkpoint
from atomthink_plugin.inference.decoding import GenerationRequest
from atomthink_plugin.inference.encoding import Encoder
from atomthink_plugin.inference.forking import ForkingDecoder
from atomthink_plugin.inference.sampling import Draw
from atomthink_plugin.tasks.demo.engine_questions import engine_questions
from atomthink_plugin.tasks.demo.questions import held_out
from benchmarks.baselines import BEAMS, CANDIDATES, Arm, Ours, Published, Setting, TagJudge, Way, run, tagged
from benchmarks.provenance import gpu_provenance
from benchmarks.random_models import SIZES, random_policy, random_prm

STEP_TOKENS, LEVELS = {"7b": 32, "40m": 32, "tiny": 4}, {"7b": 6, "40m": 6, "tiny": 2}
COPIED = {"7b": 2**32, "40m": 2**28, "tiny": 2**22}
"""Bytes of the copy that measures the bandwidth."""

DECODED = 2
"""Questions whose first steps share the batch of a measured decode step."""

SPREAD = 0.5
"""Standard deviation of a log-normal length's logarithm, about that of real steps."""

Lengths = Literal["fixed", "lognormal"]


@dataclass(frozen=True)
class Measurement:
    """One search to measure; `in_flight` is 0 for the published way."""

    lengths: Lengths
    in_flight: int
    cudnn: bool = False


def order(in_flight: Sequence[int]) -> list[Measurement]:
    """Returns all measurements, the most important first: the middle number in flight, the largest, then the rest."""
    numbers = sorted(set(in_flight))
    middle, largest = numbers[len(numbers) // 2], numbers[-1]
    first = list(dict.fromkeys((middle, largest, *numbers)))
    fixed, drawn = ([Measurement(lengths, number) for number in first] for lengths in ("fixed", "lognormal"))
    return [
        fixed[0],
        Measurement("fixed", 0),
        *fixed[1:2],
        *drawn[:2],
        Measurement("lognormal", 0),
        *fixed[2:],
        *drawn[2:],
        Measurement("fixed", middle, cudnn=True),
        Measurement("fixed", 0, cudnn=True),
    ]


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


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], object], device: torch.device, times: int = 3) -> float:
    """Returns the shortest of a few runs after one that is not counted."""
    taken = []
    for _ in range(times + 1):
        wait(device)
        began = time.perf_counter()
        work()
        wait(device)
        taken.append(time.perf_counter() - began)
    return min(taken[1:])


def bandwidth(device: torch.device, size: int) -> float:
    """Returns bytes per second, read and written, of a copy of `size` bytes."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / seconds(lambda: target.copy_(source), device, times=10)


def weights_read(model: PreTrainedModel) -> int:
    """Returns the bytes of the weights that one decode step reads: not the vision tower, of embeddings a few rows."""
    language = model.get_decoder()
    head, table = model.get_output_embeddings().weight, model.get_input_embeddings().weight
    kept = {id(weight): weight.nbytes for weight in (*language.parameters(), head)}
    if head is not table:
        kept.pop(id(table), None)
    return sum(kept.values())


def decode_step(checkpoint: Checkpoint, questions: Sequence[Question], tokens: int) -> float:
    """Returns the seconds of one decode step in a batch of all first steps, their prompts read before."""
    encoder, decoder = Encoder(checkpoint), ForkingDecoder(checkpoint, 2**34)
    prompts = [encoder.encode(Continue().render(Path(question))) for question in questions]

    def generate(count: int) -> None:
        draws = [Draw(seed, 0.8, max_tokens=count, stops=("\n\n",)) for seed in range(BEAMS * CANDIDATES)]
        with forward_passes.forward_passes(checkpoint):
            decoder.generate([GenerationRequest(prompt, draw) for prompt in prompts for draw in draws])

    long, short = (seconds(partial(generate, count), checkpoint.device) for count in (tokens + 1, 1))
    return (long - short) / tokens


def setting_of(device: torch.device, size: str) -> Setting:
    """Returns both models with random weights, and what steps are like."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    policy, prm = (make(SIZES[size], device, dtype) for make in (random_policy, random_prm))
    sampling = Sampling(0.8, rise=0.2, max_tokens=STEP_TOKENS[size])
    return Setting(size, policy, prm, tagged, TagJudge, sampling, LEVELS[size])


def searched(setting: Setting, wanted: Measurement, questions: Sequence[Question]) -> dict[str, Any]:
    """Returns what one search took, and the most memory it held on the device."""
    mean, device = setting.sampling.max_tokens, setting.policy.device
    if wanted.lengths == "lognormal":
        setting = replace(setting, lengths=partial(drawn_length, mean))
    asked = questions[: 2 * wanted.in_flight or 1]
    with kernels(wanted.cudnn):
        way: Way = Ours(setting) if wanted.in_flight else Published(setting)
        asyncio.run(run(way, questions[-1:], 1, Arm("warm")))  # kernels are chosen and compiled at their first use
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        arm = Arm("ours" if wanted.in_flight else "published way")
        wait(device)
        asyncio.run(run(way, asked, setting.levels, arm, wanted.in_flight))
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    arm.count(way)
    return {
        "way": arm.name,
        "lengths": wanted.lengths,
        "in_flight": wanted.in_flight or 1,
        "cudnn_attention": wanted.cudnn,
        "questions": len(asked),
        "tokens_per_second": arm.generated / sum(arm.seconds),
        "rows_at_most": way.rows if isinstance(way, Ours) else 1,
        "peak_gib": peak / 2**30,
        **arm.numbers(),
    }


def compare(searches: Sequence[dict[str, Any]]) -> None:
    """Adds `speedup` to each of ours whose published twin was measured."""
    same = ("lengths", "cudnn_attention")
    published = {tuple(one[key] for key in same): one for one in searches if one["way"] == "published way"}
    for one in searches:
        twin = published.get(tuple(one[key] for key in same))
        if one["way"] == "ours" and twin is not None:
            one["speedup"] = one["tokens_per_second"] / twin["tokens_per_second"]


def decoded(setting: Setting, questions: Sequence[Question], size: str) -> dict[str, float]:
    """Returns how near a decode step comes to reading the weights once."""
    device = setting.policy.device
    speed, read = bandwidth(device, COPIED[size]), weights_read(setting.policy.model)
    step = decode_step(setting.policy, questions, STEP_TOKENS[size])
    return {
        "rows": len(questions) * BEAMS * CANDIDATES,
        "step_ms": 1e3 * step,
        "floor_ms": 1e3 * read / speed,
        "share_of_floor": read / speed / step,
        "bandwidth_gb_per_second": speed / 1e9,
        "weights_gb": read / 1e9,
    }


def measure(options: argparse.Namespace, began: float) -> Iterator[dict[str, Any]]:
    """Yields the record after each measurement."""
    device, size = torch.device(options.device), options.size
    record: dict[str, Any] = {
        **gpu_provenance(device),
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "size": size,
        "minutes": 0.0,
        "searches": [],
    }
    setting = setting_of(device, size)
    questions = engine_questions(held_out(2 * max(options.in_flight) + 1))
    for turn, wanted in enumerate(order(options.in_flight)):
        if time.monotonic() - began > 60 * options.minutes:
            print(f"{options.minutes} minutes have passed: {wanted} and what follows are left out.", file=sys.stderr)
            return
        record["searches"].append(searched(setting, wanted, questions))
        compare(record["searches"])
        if turn == 1:
            record["decode_step"] = decoded(setting, questions[:DECODED], size)
        record["minutes"] = (time.monotonic() - began) / 60
        yield record


def show(record: dict[str, Any], title: str) -> None:
    grid = Table(title=f"{title}, on {record['machine']}", show_header=False)
    for name, value in record.items():
        parts = {f"{name}: {key}": part for key, part in value.items()} if isinstance(value, dict) else {name: value}
        for key, part in parts.items():
            grid.add_row(key.replace("_", " "), f"{part:.3g}" if isinstance(part, float) else str(part))
    Console(width=100).print(grid)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", choices=sorted(SIZES), default="7b")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 4, 16], metavar="N")
    parser.add_argument("--minutes", type=float, default=8.0, help="after which no measurement begins")
    parser.add_argument("--json", type=FilePath)
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("There is no CUDA device here: nothing was measured.", file=sys.stderr)
        sys.exit(2)
    for record in measure(options, time.monotonic()):
        newest = {"machine": record["machine"], **record["searches"][-1]}
        show(newest, f"beam search, B = {BEAMS}, C = {CANDIDATES}")
        if options.json is not None:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
