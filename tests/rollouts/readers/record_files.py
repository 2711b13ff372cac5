"""Files of published formats, written by hand."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from atomthink_plugin.rollouts.rollout_set import RolloutCandidate, RolloutSet

Record = Mapping[str, Any]


def png(side: int = 6, colour: str = "red") -> bytes:
    content = BytesIO()
    Image.new("RGB", (side, side), colour).save(content, "PNG")
    return content.getvalue()


def base64_png(side: int = 6) -> str:
    return base64.b64encode(png(side)).decode()


def image_file(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(png())
    return file


def jsonl(file: Path, *records: Record | str) -> str:
    """Writes a record per line; a text is a line as it is."""
    lines = [one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in records]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(file)


def json_list(file: Path, *records: Record) -> str:
    file.write_text(json.dumps(records, ensure_ascii=False, indent=1), encoding="utf-8")
    return str(file)


def texts(candidates: Sequence[RolloutCandidate]) -> list[str]:
    return [candidate.text for candidate in candidates]


def all_texts(sets: Sequence[RolloutSet]) -> dict[str, list[str]]:
    """The texts of the candidates by question."""
    return {one.question: texts(one.candidates) for one in sets}
