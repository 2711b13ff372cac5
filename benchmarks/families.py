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
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from rich.console import Console

from benchmarks.family_models.build import architectures
from benchmarks.provenance import provenance

_IDLE: Final = 10
"""A process that takes this many times its CPU time in wall-clock time for one type is ended."""

_TOGETHER: Final = 20
"""Types that one process measures, unless it ends before: to start one takes longer than to measure a type."""

Record = dict[str, Any]


def measured(types: Sequence[str], timeout: int, keep: Path | None) -> Iterator[tuple[str, Record]]:
    """Yields the record of each type as soon as it is there."""
    rest = list(types)
    while rest:
        process = Measurement(rest[:_TOGETHER], timeout, keep)
        for record in process.records():
            kind = record.pop("type")
            rest.remove(kind)
            yield kind, record
        if process.fault:  # the first that is left ended the process
            yield rest.pop(0), {"built": True, "outcome": "crashed", "reason": process.fault}


class Measurement:
    """A process that measures types.

    Args:
        types: The types.
        timeout: CPU seconds of each.
        keep: Folder that keeps the models, None to keep none.

    Attributes:
        fault: Why the process ended before the last type; empty while it runs, or if it did not.
    """

    def __init__(self, types: Sequence[str], timeout: int, keep: Path | None) -> None:
        self.fault = ""
        self._most = _IDLE * timeout
        self._command = [sys.executable, "-m", "benchmarks.family_models.measure", "--timeout", str(timeout)]
        self._command += ["--keep", str(keep)] if keep is not None else []
        self._types = types

    def records(self) -> Iterator[Record]:
        """Starts the process and yields what it finds."""
        with tempfile.TemporaryDirectory() as folder:
            out, errors = Path(folder) / "records.jsonl", Path(folder) / "errors.txt"
            out.touch()
            with errors.open("w") as file:
                process = subprocess.Popen([*self._command, "--out", str(out), *self._types], stdout=file, stderr=file)
            read, since = 0, time.monotonic()
            ended = False
            while not ended:
                ended = process.poll() is not None  # before the last look at the file
                lines = out.read_text().splitlines(keepends=True)
                if lines and not lines[-1].endswith("\n"):  # it is being written
                    lines.pop()
                yield from map(json.loads, lines[read:])
                if len(lines) > read:
                    read, since = len(lines), time.monotonic()
                elif time.monotonic() - since > self._most:
                    process.kill()
                time.sleep(0 if ended else 1)
            if process.returncode:
                last = (errors.read_text().strip().splitlines() or [""])[-1]
                self.fault = f"the process ended with {process.returncode} ({last[:200]})"


class Results:
    """The results file, written after each type.

    Args:
        file: The file; a missing one is made.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._all: Record = json.loads(file.read_text()) if file.exists() else {"versions": {}}
        version = self._all["versions"].setdefault(transformers.__version__, {"types": {}})
        version |= {"torch": torch.__version__, "listed": list(architectures())}
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
    options = parser.parse_args()
    console, results = Console(), Results(options.json)
    types = options.only or list(architectures())
    todo = types if options.again else results.missing(types)
    for kind, record in measured(todo, options.timeout, options.keep):
        results.add(kind, record)
        console.print(f"{kind}: {record.get('outcome', 'not built')} {record.get('reason', '')}", soft_wrap=True)


if __name__ == "__main__":
    main()
