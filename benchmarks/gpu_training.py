"""The cost of a training step of a 7 B LLaVA with LoRA: memory, tokens per second, share of the device's arithmetic.

    python -m benchmarks.gpu_training --json benchmarks/results/gpu_training.json

The model has LLaVA 1.5's shape and random weights, nothing is downloaded. Rows are whole chains after an image of 576
tokens, as `atomthink train policy` renders and collates them; LoRA of rank 16 on the language model's linear layers,
AdamW. Weights are in bf16, the adapters in fp32, without the trainer's autocast. A trained token
takes 4 FLOPs per weight of the language model with frozen weights (2 forward, 2 for the gradients of activations), and
its share is of what a large matrix product reaches on the same device. Recalculation under gradient checkpointing is
not counted as work. `--device cpu --size tiny` is a quick test.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
from functools import partial
from itertools import islice
from pathlib import Path as FilePath

import torch
from peft import get_peft_model

from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.inference.checkpoints import Checkpoint
from atomthink_plugin.tasks.demo.figures import draw
from atomthink_plugin.tasks.demo.questions import training_stream
from atomthink_plugin.training.records import engine_question
from atomthink_plugin.training.train.checkpoint import lora_config
from atomthink_plugin.training.train.collate import Batch, collate
from atomthink_plugin.training.train.recipe import PolicyRecipe
from atomthink_plugin.training.train.row_encoder import RowEncoder
from atomthink_plugin.training.train.tokens import ChainRows, closing_id
from benchmarks.gpu_search_cost import seconds, show
from benchmarks.provenance import gpu_provenance
from benchmarks.random_models import SIZES, random_policy

MATRIX = {"7b": 8192, "40m": 2048, "tiny": 512}


def batch_of(checkpoint: Checkpoint, rows: int) -> Batch:
    """Returns chains of the demo task as a batch on the device."""
    builder = ChainRows(RowEncoder(checkpoint), closing_id(checkpoint))
    questions = islice(training_stream(0), rows)
    rendered = [
        builder.chain_row(Continue(), engine_question(str(n), question.text, [draw(question)]), question.steps)
        for n, question in enumerate(questions)
    ]
    kind, device = checkpoint.model.dtype, checkpoint.device
    batch = collate(rendered, checkpoint.pad_id)
    return {name: value.to(device, kind if value.is_floating_point() else None) for name, value in batch.items()}


def product_speed(device: torch.device, side: int, kind: torch.dtype) -> float:
    """Returns the FLOPs per second of a square matrix product."""
    left = torch.randn(side, side, device=device, dtype=kind)
    return 2 * side**3 / seconds(lambda: left @ left, device, times=10)


def memory(device: torch.device) -> float:
    """Returns the most GiB that were in use."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(device: torch.device, size: str, rows: int) -> dict[str, object]:
    kind = torch.float32 if size == "tiny" else torch.bfloat16
    checkpoint = random_policy(SIZES[size], device, kind)
    fields = {"model_name_or_path": "random", "data": "none", "output_dir": "none", "use_peft": True}
    model = get_peft_model(checkpoint.model, lora_config(PolicyRecipe.model_validate(fields), checkpoint.model))
    language = sum(parameter.numel() for parameter in checkpoint.model.get_decoder().parameters())
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    steps = torch.optim.AdamW(trained, lr=1e-4)
    batch = batch_of(checkpoint, rows)
    tokens = int(batch["attention_mask"].sum())

    def step() -> None:
        model(**batch).loss.backward()
        steps.step()
        steps.zero_grad()

    record: dict[str, object] = {
        **gpu_provenance(device),
        "size": size,
        "rows": rows,
        "tokens": tokens,
        "trained parameters": sum(parameter.numel() for parameter in trained),
        "language model's parameters": language,
    }
    reached = product_speed(device, MATRIX[size], kind)
    for name, prepare in (
        ("plain", lambda: None),
        ("checkpointing", partial(checkpoint.model.gradient_checkpointing_enable, {"use_reentrant": False})),
    ):
        prepare()
        model.train()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        taken = seconds(step, device)
        record[name] = {
            "seconds per step": taken,
            "tokens per second": tokens / taken,
            "GiB": memory(device),
            "share of the device's arithmetic": 4 * language * tokens / taken / reached,
        }
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", choices=sorted(SIZES), default="7b")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--json", type=FilePath)
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("There is no CUDA device here: nothing was measured.", file=sys.stderr)
        sys.exit(2)
    record = measure(torch.device(options.device), options.size, options.rows)
    show(record, "a training step with LoRA")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
