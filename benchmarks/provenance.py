"""Where and when a result was measured: every results file says so, and the pages of `docs/benchmarks` show it."""

from __future__ import annotations

import os
import platform
import re
from datetime import date
from pathlib import Path
from typing import Any


def provenance() -> dict[str, str]:
    """Returns the machine and today's date, for a results file."""
    machine = f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return {"machine": machine, "date": date.today().isoformat()}


def processor() -> str:
    """Returns the name of the processor, or its architecture where the name is not known."""
    info = Path("/proc/cpuinfo")
    name = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return name[1].strip() if name else platform.processor() or platform.machine()


def gpu_provenance(device: Any) -> dict[str, str]:
    """Returns the same for a measurement on a torch device."""
    import torch

    if device.type != "cuda":
        return provenance()
    return {**provenance(), "machine": f"one {torch.cuda.get_device_name(device)}"}
