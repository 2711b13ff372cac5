"""The cost of a beam search on a GPU with models of 7 B, by questions in flight, and of two other ways.

    python -m benchmarks.gpu_search_cost --json benchmarks/results/gpu_search_cost.json
    python -m benchmarks.gpu_search_cost --device cpu --size tiny --in-flight 1 2 --json cost.json  # a quick test

A LLaVA and a text PRM of Qwen2-7B's shape are made on the device with random weights, nothing is downloaded. Both
implementations (`baselines.py`) search with 576 image tokens, B = 2, C = 3 and six levels. Ours answers twice as many
questions as are in flight, the published code one, because it is sequential. transformers' own `generate` samples as
many steps without a search (`gpu_generate.py`), with all questions in one batch. Steps have 32 tokens (`fixed`) or a
length drawn from a log-normal distribution with that mean (`lognormal`). All ways use torch's own attention kernels,
without cuDNN's. In `cudnn` measurements torch may choose cuDNN's, for both implementations.

Time on a GPU may be limited, so the most important measurements come first, the file is written after each, and none
begins once `--minutes` have passed. The file holds `machine`, `date`, `torch`, `cudnn` (versions), `size`, `minutes`
(of all measurements so far) and:

- `searches`, a list, each with `way` (`ours`, `published way` or `plain generate`), `lengths`, `in_flight`,
  `cudnn_attention`, `questions`, `seconds_per_question`, `generated` (tokens per question), `tokens_per_second` and
  `peak_gib`. The two implementations also have `cpu_seconds_per_question` and what was read and encoded (see
  `search_cost.py`), and ours `rows_at_most` (the most rows of a batch), `speedup` (its tokens per second over those of
  the published way with the same lengths and kernels, absent until that was measured), `phases` (seconds of the host
  by model and phase, see `atomthink_plugin.inference.phases`), `rows_per_pass` (of the policy's decode passes),
  `pool_gib`, `graphs_captured` (before the measurement and during it, when a number of tokens is seen for the first
  time) and `graphs_failed`.
- `decode_step` of 12 rows, and `decode_steps` of more rows and with less of the engine, see `gpu_decode_step.py`:
  `floor_ms` is what reading the weights once takes at the bandwidth that a large copy on the device reaches, and
  `floor_with_states_ms` that of weights and distinct keys and values.
- `errors`, only if there are any: measurements that failed, such as for want of memory.
- `device_busy`: the share of a search of two levels in which the device ran any kernel, by questions in flight.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path as FilePath
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from atomthink_plugin.api import Sampling
from atomthink_plugin.tasks.demo.engine_questions import engine_questions
from atomthink_plugin.tasks.demo.questions import held_out
from benchmarks.baselines import BEAMS, CANDIDATES, Setting, TagJudge, tagged
from benchmarks.gpu_decode_step import decode_step
from benchmarks.gpu_searches import Measurement, Searches, compare, order
from benchmarks.provenance import gpu_provenance
from benchmarks.random_models import SIZES, random_policy, random_prm

STEP_TOKENS, LEVELS = {"7b": 32, "40m": 32, "tiny": 4}, {"7b": 6, "40m": 6, "tiny": 2}


def setting_of(device: torch.device, size: str) -> Setting:
    """Returns both models with random weights, and what steps are like."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    policy, prm = (make(SIZES[size], device, dtype) for make in (random_policy, random_prm))
    sampling = Sampling(0.8, rise=0.2, max_tokens=STEP_TOKENS[size])
    return Setting(size, policy, prm, tagged, TagJudge, sampling, LEVELS[size])


def measure(options: argparse.Namespace, began: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the name of each measurement and the record after it."""
    device, size = torch.device(options.device), options.size
    record: dict[str, Any] = {
        **gpu_provenance(device),
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "size": size,
        "minutes": 0.0,
        "searches": [],
        "decode_steps": [],
        "device_busy": {},
    }
    numbers, decoded = options.in_flight, options.decoded
    asked = 8 * sum(numbers) + 4 * max(numbers) + sum(decoded) + 2 * decoded[0] + 20
    searches = Searches(setting_of(device, size), engine_questions(held_out(asked)))
    policy, tokens = searches.setting.policy, STEP_TOKENS[size]

    def search(wanted: Measurement) -> None:
        record["searches"].append(searches.measure(wanted))
        compare(record["searches"])

    def step(questions: int, **engine: bool) -> None:
        searches.close()
        taken = decode_step(policy, searches.questions(questions), BEAMS * CANDIDATES, size, tokens, **engine)
        record["decode_steps"].append(taken)
        record.setdefault("decode_step", taken)

    def busy(in_flight: int) -> None:
        record["device_busy"][str(in_flight)] = searches.busy(in_flight)

    planned = [(f"{one}", partial(search, one)) for one in order(numbers)]
    steps = [(f"decode step, {number} questions", partial(step, number)) for number in decoded]
    less = [{"compiled": False}, {"graphs": False, "compiled": False}]
    steps += [(f"decode step, {one}", partial(step, decoded[0], **one)) for one in less]
    shares = [(f"device busy, {one}", partial(busy, one)) for one in sorted(set(numbers))[1:3]]
    for name, work in [steps[0], *planned[:3], *shares, *planned[3:-2], *steps[1:], *planned[-2:]]:
        if time.monotonic() - began > 60 * options.minutes:
            print(f"{options.minutes} minutes have passed: {name} and what follows are left out.", file=sys.stderr)
            return
        try:
            work()
        except Exception as error:  # the others may still be measured
            if device.type == "cpu":
                raise
            record.setdefault("errors", []).append({"measurement": name, "error": f"{type(error).__name__}: {error}"})
            searches.close()
        record["minutes"] = (time.monotonic() - began) / 60
        yield name, record


def newest(record: dict[str, Any]) -> dict[str, Any]:
    """Returns what the last measurement of each kind found."""
    found: dict[str, Any] = {}
    for kind in ("searches", "decode_steps", "errors"):
        found |= (record.get(kind) or [{}])[-1]
    return {**found, "device_busy": record["device_busy"]}


def show(found: dict[str, Any], title: str) -> None:
    grid = Table(title=title, show_header=False)
    for name, value in found.items():
        parts = {f"{name}: {key}": part for key, part in value.items()} if isinstance(value, dict) else {name: value}
        for key, part in parts.items():
            grid.add_row(key.replace("_", " "), f"{part:.3g}" if isinstance(part, float) else str(part))
    Console(width=100).print(grid)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", choices=sorted(SIZES), default="7b")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 4, 16, 64], metavar="N")
    parser.add_argument(
        "--decoded",
        type=int,
        nargs="+",
        default=[2, 16, 64],
        metavar="N",
        help="questions of the measured decode steps",
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="after which no measurement begins")
    parser.add_argument("--json", type=FilePath)
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("There is no CUDA device here: nothing was measured.", file=sys.stderr)
        sys.exit(2)
    for name, record in measure(options, time.monotonic()):
        show(newest(record), f"{name}, on {record['machine']}")
        if options.json is not None:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
