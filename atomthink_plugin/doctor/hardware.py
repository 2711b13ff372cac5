"""The devices, their free memory, and the limit of open files."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from typing import Final

from atomthink_plugin.doctor.findings import Finding, Problem

_GIB: Final = 2**30

_MODEL_GIB: Final = 15
"""Memory of a model of 7 billion parameters in 16 bit. On a CPU, models are loaded in 32 bit."""

_VISIBLE: Final = "CUDA_VISIBLE_DEVICES"

_OPEN_FILES: Final = 1024
"""Files and connections that a run with many questions in flight may have open."""


def devices() -> Finding:
    """Looks at GPUs, the CPU and the memory."""
    import torch

    if torch.cuda.is_available():
        return _gpus()
    if torch.backends.mps.is_available():
        return Finding([("device", f"MPS (Apple GPU), {_host()}")])
    import psutil

    free = psutil.virtual_memory().available / _GIB
    fits = "are slow here" if free > 2 * _MODEL_GIB else f"need {2 * _MODEL_GIB} GiB in 32 bit, {free:.0f} are free"
    server = Problem(f"There is no GPU, and models of 7B {fits}: serve them elsewhere (`--model atomthink_openai`).")
    return Finding([("device", f"CPU, {_host()}; no CUDA, no MPS")], [*_hidden_gpus(torch.__version__), server])


def _hidden_gpus(torch_version: str) -> list[Problem]:
    """Returns why torch finds no GPU where there may be one."""
    if shutil.which("nvidia-smi") is None:
        return []
    hidden = os.environ.get(_VISIBLE)
    if hidden is not None:
        return [Problem(f"torch finds no GPU with {_VISIBLE}={hidden!r}: unset it, or name a GPU that there is.")]
    advice = "install a CUDA build of torch that fits the driver"
    return [Problem(f"The driver of NVIDIA is installed, but torch {torch_version} cannot use a GPU: {advice}.")]


def _gpus() -> Finding:
    import torch

    by_name: dict[tuple[str, int], list[float]] = defaultdict(list)
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        by_name[torch.cuda.get_device_name(index), round(total / _GIB)].append(free / _GIB)
    facts = [
        ("device", f"{len(free)} x {name}, {total} GiB each, free: {', '.join(f'{each:.0f}' for each in free)}")
        for (name, total), free in by_name.items()
    ]
    most = max(max(free) for free in by_name.values())
    needed = f"A policy and a PRM of 7B need {2 * _MODEL_GIB} GiB in 16 bit, and at most {most:.0f} GiB are free"
    problem = Problem(f"{needed}: serve one elsewhere (`base_url=`, `prm_base_url=`), or use smaller models.")
    problems = [problem] if most < 2 * _MODEL_GIB else []
    return Finding([*facts, ("host", _host())], problems)


def _host() -> str:
    import psutil

    memory = psutil.virtual_memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores, {memory.available / _GIB:.0f} of {memory.total / _GIB:.0f} GiB RAM free"


def open_files() -> Finding:
    """Looks at how many files and connections a process may open."""
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY or limit >= _OPEN_FILES:
        return Finding()
    return Finding(
        [("open files", f"{limit} at most")],
        [Problem(f"Many questions in flight at a server need more than {limit} open files: `ulimit -n 4096`.")],
    )
