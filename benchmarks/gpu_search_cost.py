"""What a beam search costs on a GPU with models of 7 B, and how near its decoding comes to the memory's speed.

    python benchmarks/gpu_search_cost.py --json benchmarks/results/gpu_search_cost.json

A LLaVA and a text PRM of Qwen2-7B's shape are made on the device with random weights, nothing is downloaded. Both ways
(`ways.py`) search the same questions: 576 image tokens, B = 2, C = 3, six steps of 32 tokens. The floor of a decode
step is what reading the weights once takes: their bytes over the bandwidth that a large copy on the device reaches.
Keys and values are read besides; the floor leaves them out. `--device cpu --size tiny` runs all of it to see that it
works.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path as FilePath

import torch
from random_models import SIZES, random_policy, random_prm
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel
from ways import BEAMS, CANDIDATES, Arm, Ours, Published, Setting, TagJudge, Way, run, tagged

from atomthink_plugin.api import Path, Question, Sampling
from atomthink_plugin.checkpoints import Checkpoint
from atomthink_plugin.formats import Continue
from atomthink_plugin.model_adapters.decoding import Row
from atomthink_plugin.model_adapters.forking import ForkingDecoder
from atomthink_plugin.model_adapters.sampling import Draw
from atomthink_plugin.prompting import Encoder
from atomthink_plugin.tasks.demo.ask import ask
from atomthink_plugin.tasks.demo.questions import held_out

STEP_TOKENS, LEVELS = {"7b": 32, "40m": 32, "tiny": 4}, {"7b": 6, "40m": 6, "tiny": 2}
COPIED = {"7b": 2**32, "40m": 2**28, "tiny": 2**22}
"""Bytes of the copy that measures the bandwidth."""


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


def decode_step(checkpoint: Checkpoint, questions: list[Question], tokens: int) -> float:
    """Returns the seconds of one decode step in a batch of all first steps, their prompts read before."""
    encoder, decoder = Encoder(checkpoint), ForkingDecoder(checkpoint, 2**34)
    prompts = [encoder.encode(Continue().render(Path(question))) for question in questions]

    def generate(count: int) -> None:
        draws = [Draw(seed, 0.8, max_tokens=count, stops=("\n\n",)) for seed in range(BEAMS * CANDIDATES)]
        with torch.inference_mode():
            decoder.generate([Row(prompt, draw) for prompt in prompts for draw in draws])

    long, short = (seconds(partial(generate, count), checkpoint.device) for count in (tokens + 1, 1))
    return (long - short) / tokens


def searched(way: Way, name: str, setting: Setting, questions: list[Question]) -> dict[str, float]:
    """Returns what one way took, and the most memory it held on the device."""
    arm, device = Arm(name), setting.policy.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    asyncio.run(run(way, questions, setting.levels, arm))
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    arm.count(way)
    return {**arm.numbers(), "tokens_per_second": arm.generated / sum(arm.seconds), "peak_gib": peak / 2**30}


def measure(device: torch.device, size: str, count: int) -> dict[str, object]:
    """Returns all numbers of one machine."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    policy, prm = (make(SIZES[size], device, dtype) for make in (random_policy, random_prm))
    sampling = Sampling(0.8, rise=0.2, max_tokens=STEP_TOKENS[size])
    setting = Setting(size, policy, prm, tagged, TagJudge, sampling, LEVELS[size])
    questions = ask(held_out(count + 1))
    for warm in (Ours(setting), Published(setting)):  # kernels are chosen and compiled at their first use
        asyncio.run(run(warm, questions[count:], 1, Arm("warm")))
    ours = searched(Ours(setting), "ours", setting, questions[:count])
    published = searched(Published(setting), "published way", setting, questions[:count])
    speed, read = bandwidth(device, COPIED[size]), weights_read(policy.model)
    step = decode_step(policy, questions[:count], STEP_TOKENS[size])
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "size": size,
        "questions": count,
        "ours": ours,
        "published way": published,
        "wall_time_ratio": published["seconds_per_question"] / ours["seconds_per_question"],
        "bandwidth_gb_per_second": speed / 1e9,
        "weights_gb": read / 1e9,
        "decode_step_rows": count * BEAMS * CANDIDATES,
        "decode_step_ms": 1e3 * step,
        "decode_floor_ms": 1e3 * read / speed,
        "share_of_decode_floor": read / speed / step,
    }


def show(record: dict[str, object], title: str) -> None:
    grid = Table(title=f"{title}, on {record['device']}", show_header=False)
    for name, value in record.items():
        parts = {f"{name}: {key}": part for key, part in value.items()} if isinstance(value, dict) else {name: value}
        for key, part in parts.items():
            grid.add_row(key.replace("_", " "), f"{part:.3g}" if isinstance(part, float) else str(part))
    Console(width=100).print(grid)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", choices=sorted(SIZES), default="7b")
    parser.add_argument("--questions", type=int, default=4)
    parser.add_argument("--json", type=FilePath)
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("There is no CUDA device here: nothing was measured.", file=sys.stderr)
        sys.exit(2)
    record = measure(torch.device(options.device), options.size, options.questions)
    show(record, f"beam search, B = {BEAMS}, C = {CANDIDATES}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
