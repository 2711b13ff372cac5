"""Several processes that train together on this machine."""

from __future__ import annotations

import os
import select
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile

import torch

from tests import commands


def in_two_processes(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a module in two processes of one torch.distributed group; if one fails, the other is killed.

    They get the variables that torchrun and `accelerate launch` set. Their outputs are those of both, one after the
    other; the status is that of the first one that failed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    if torch.cuda.is_available():
        group["CUDA_VISIBLE_DEVICES"] = ""  # only there, because a process with other settings is started afresh
    warm = commands.warm_process()
    command = [str(warm.folder / "bin" / "python"), "-m", module, *arguments]
    with ExitStack() as stack:
        outs, errs = ([stack.enter_context(TemporaryFile("w+")) for _ in range(2)] for _ in range(2))
        processes = [
            subprocess.Popen(
                command,
                cwd=Path.cwd(),
                env=commands.environment(warm.folder / "cache", {**group, "RANK": str(rank), "LOCAL_RANK": str(rank)}),
                stdout=outs[rank],
                stderr=errs[rank],
            )
            for rank in range(2)
        ]
        status = _first_failure(processes)
        for file in (*outs, *errs):
            file.seek(0)
        out, err = ("".join(file.read() for file in files) for files in (outs, errs))
    return subprocess.CompletedProcess(command, status, out, err)


def _first_failure(processes: list[subprocess.Popen[bytes]]) -> int:
    """Waits until all have ended; kills the others when one fails. Returns its status, or 0."""
    running = {os.pidfd_open(process.pid): process for process in processes}
    status = 0
    while running:
        for ended in select.select(list(running), [], [])[0]:
            code = running.pop(ended).wait()
            os.close(ended)
            if code and not status:
                status = code
                for process in running.values():
                    process.kill()  # it would wait for the other for ever
    return status
