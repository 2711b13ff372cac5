"""Models that vLLM can run on a CPU, and real vLLM servers for them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tests import tiny_models

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "TORCH_COMPILE_DISABLE": "1",  # the first request with log-probabilities would take 20 s
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
}

ENGINE: Mapping[str, Any] = {"enforce_eager": True, "block_size": 32, "max_num_seqs": 16}
"""Small blocks: what is cached is whole blocks."""

PATIENCE = 900.0
"""Seconds that a server may take to start: minutes of processor time, on a machine that may have other work."""

SIZES = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2}
"""Heads of a width that vLLM's attention has on CPUs."""


def causal_prm(folder: Path) -> Path:
    return tiny_models.causal_prm(folder, SIZES)


def head_prm(folder: Path) -> Path:
    return tiny_models.head_prm(folder, SIZES)


def value_prm(folder: Path) -> Path:
    return tiny_models.value_prm(folder, SIZES)


def qwen_prm(folder: Path) -> Path:
    """As `head_prm`, with the two-layer head and the architecture's name of Qwen2.5-Math-PRM."""
    head_prm(folder)
    file, width = folder / "model.safetensors", SIZES["hidden_size"]
    weights = {name: weight for name, weight in load_file(file).items() if not name.startswith("score")}
    random = torch.Generator().manual_seed(3)
    for layer, rows in ((0, width), (2, 2)):
        weights[f"score.{layer}.weight"] = torch.randn(rows, width, generator=random) / 8
        weights[f"score.{layer}.bias"] = torch.randn(rows, generator=random)
    save_file(weights, file, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["Qwen2ForProcessRewardModel"]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def image_prm(folder: Path) -> Path:
    """A tiny Qwen2.5-VL."""
    positions = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [8, 12, 12]}
    return tiny_models.qwen(folder, {**SIZES, "rope_parameters": positions, "max_position_embeddings": 2048})


@dataclass
class VllmServer:
    """A running server; `restart` starts another at its address after a `kill`."""

    folder: Path
    options: tuple[str, ...]
    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def kill(self) -> None:
        """Ends it without warning, its worker processes too."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def restart(self) -> None:
        self.process = _start(self.folder, self.options, self.port)

    def prefix_cache(self) -> tuple[int, int]:
        """Prompt tokens that were looked up in the prefix cache so far, and how many of them were found."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as reply:
            lines = reply.read().decode().splitlines()
        counts = [
            sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"vllm:prefix_cache_{name}_total"))
            for name in ("queries", "hits")
        ]
        return int(counts[0]), int(counts[1])


@contextmanager
def serve(folder: Path, *options: str) -> Iterator[VllmServer]:
    """A server of a model on a free port."""
    with starting(folder, *options) as server:
        server_is_up(server)
        yield server


@contextmanager
def starting(folder: Path, *options: str) -> Iterator[VllmServer]:
    """As `serve`, but the server may not be up yet: several can start at the same time."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = VllmServer(folder, options, port, _start(folder, options, port))
    try:
        yield server
    finally:
        server.kill()


def server_is_up(server: VllmServer, patience: float = PATIENCE) -> None:
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if server.process.poll() is not None:
            raise RuntimeError(f"vllm serve ended with {server.process.returncode}: see its output above")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"vllm serve is not up after {patience:.0f} s")


def _start(folder: Path, options: tuple[str, ...], port: int) -> subprocess.Popen[bytes]:
    vllm = Path(sys.executable).parent / "vllm"
    common = ("--dtype", "float32", "--enforce-eager", "--block-size", "32", "--max-num-seqs", "16")
    where = ("--host", "127.0.0.1", "--port", str(port))
    command = [sys.executable, str(vllm), "serve", str(folder), *common, *where, *options]
    return subprocess.Popen(command, env={**os.environ, **ENVIRONMENT}, start_new_session=True)
