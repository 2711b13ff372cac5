"""One JSON line per measurement, to the terminal and to a file."""

from __future__ import annotations

import json
from pathlib import Path


class Log:
    """Writes records to a new file and prints them."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        self._path = path

    def __call__(self, **record: object) -> None:
        """Writes one record; floats are rounded to 4 digits."""
        rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in record.items()}
        line = json.dumps(rounded)
        print(line, flush=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
