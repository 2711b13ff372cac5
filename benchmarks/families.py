"""Which architectures of transformers run as a policy, how, and whether their tokens are those of plain `generate`.

    python -m benchmarks.families --json benchmarks/results/families.json
    python -m benchmarks.families --json FILE --only llava qwen3_vl --again

For each type that transformers lists for image-text-to-text a tiny model with random weights is built
(`family_models/`), loaded as `--model atomthink_hf` does, and asked with quick and beam about an image, without an
image and about two images. Its greedy replies at the first step and after two given steps are compared with the
model's own `generate`. The results file has a part for each version of transformers; types that it has already are left
out, so that an interrupted run continues. A type that ends its process or takes too long does not end the run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from rich.console import Console

from benchmarks.family_models.build import architectures
from benchmarks.provenance import provenance

_IDLE: Final = 10
"""A process that takes this many times the CPU time of its types in wall-clock time is ended."""

Record = dict[str, Any]


def measured(types: Sequence[str], timeout: int, keep: Path | None) -> Iterator[tuple[str, Record]]:
    """Yields the record of each type, measured in as few processes as possible."""
    rest = list(types)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "records.jsonl"
        while rest:
            out.write_text("")
            ended = _process(rest, out, timeout, keep)
            for line in out.read_text().splitlines():
                record = json.loads(line)
                rest.remove(kind := record.pop("type"))
                yield kind, record
            if rest and ended:  # the first that is left ended the process
                yield rest.pop(0), {"built": True, "outcome": "crashed", "reason": ended}


def _process(types: Sequence[str], out: Path, timeout: int, keep: Path | None) -> str:
    """Measures types in a process of their own; returns why it ended before the last, empty if it did not."""
    command = [sys.executable, "-m", "benchmarks.family_models.measure", "--out", str(out), "--timeout", str(timeout)]
    command += ["--keep", str(keep)] if keep is not None else []
    try:
        done = subprocess.run(
            [*command, *types], timeout=_IDLE * timeout * len(types), capture_output=True, text=True, check=False
        )
    except subprocess.TimeoutExpired:
        return "no reply"
    if done.returncode == 0:
        return ""
    lines = done.stderr.strip().splitlines() or [""]
    return f"the process ended with {done.returncode} ({lines[-1][:200]})"


class Results:
    """The results file, written after each type.

    Args:
        file: The file; a missing one is made.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._all: Record = json.loads(file.read_text()) if file.exists() else {"versions": {}}
        version = self._all["versions"].setdefault(transformers.__version__, {"types": {}})
        version["torch"] = torch.__version__
        self._types: Record = version["types"]

    def missing(self, types: Sequence[str]) -> list[str]:
        """Returns the types that are not in the file for this version of transformers."""
        return [kind for kind in types if kind not in self._types]

    def add(self, kind: str, record: Record) -> None:
        """Writes the record of a type."""
        self._types[kind] = record
        known = architectures()
        ordered = {name: self._types[name] for name in known if name in self._types}
        self._all["versions"][transformers.__version__]["types"] = self._types = ordered
        self._all = {**provenance(), "versions": dict(sorted(self._all["versions"].items(), reverse=True))}
        self._file.write_text(json.dumps(self._all, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="results file")
    parser.add_argument(
        "--only", nargs="+", choices=sorted(architectures()), metavar="TYPE", help="measure these types"
    )
    parser.add_argument("--again", action="store_true", help="also measure types that the results file has")
    parser.add_argument("--timeout", type=int, default=120, help="CPU seconds of each type")
    parser.add_argument("--keep", type=Path, help="folder that keeps the models")
    parser.add_argument("--together", type=int, default=10, help="types measured in one process")
    options = parser.parse_args()
    console, results = Console(), Results(options.json)
    types = options.only or list(architectures())
    todo = types if options.again else results.missing(types)
    for start in range(0, len(todo), options.together):
        for kind, record in measured(todo[start : start + options.together], options.timeout, options.keep):
            results.add(kind, record)
            console.print(f"{kind}: {record.get('outcome', 'not built')} {record.get('reason', '')}", soft_wrap=True)


if __name__ == "__main__":
    main()
