"""One step of two processes that share the embedded model's weights; only the first one's row has an image.

Run by `test_sharded.py` under torch.distributed; prints each process's loss.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch.distributed import destroy_process_group, get_rank, init_process_group
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from atomthink_plugin.inference.checkpoints import load_multimodal
from atomthink_plugin.training.train.dataset import RowCollator, read_training_data
from atomthink_plugin.training.train.row_encoder import row_encoder
from atomthink_plugin.training.train.tokens import ChainRows, closing_id
from tests.training.train.demo_data import MODEL, recipe


def main() -> None:
    folder = Path(sys.argv[1])
    init_process_group("gloo")
    checkpoint = load_multimodal(MODEL, device="cpu")
    rows = ChainRows(row_encoder(checkpoint), closing_id(checkpoint), one_row_per_chain=True)
    data = read_training_data(recipe(folder), rows)
    collator = RowCollator(data, checkpoint.pad_id).with_spare()
    model: Any = checkpoint.model.requires_grad_(True)
    mesh = init_device_mesh("cpu", (2,))
    layers = [
        module for module in model.modules() if type(module).__name__ in ("CLIPEncoderLayer", "LlamaDecoderLayer")
    ]
    for module in (*layers, model):
        fully_shard(module, mesh=mesh)
    batch = collator([data.parts[get_rank()]])
    loss = model(**batch).loss
    loss.backward()
    assert all(torch.isfinite(value.grad.to_local()).all() for value in model.parameters() if value.grad is not None)
    print(f"loss {get_rank()} {loss.item():.6f}")
    destroy_process_group()


if __name__ == "__main__":
    main()
