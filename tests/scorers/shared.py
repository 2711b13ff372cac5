"""What the scorers' tests share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path as FilePath
from typing import Any

import torch

from atomthink_plugin.api import Path, Scorer
from tests.tiny_models import chain, picture, question

STEPS = ("Step 1: Compute 1 + 1 = 2.", "Step 2: Compute 2 + 2 = 4, which is long enough to pad.", "Step 3: So it is 4.")
ASKED = question("How many?\n(A) 3\n(B) 4", picture(0), name="a")
OTHER = question("What is two plus two plus two?", picture(1, (80, 40)), name="b")
TEXT = question("What is one plus one?", name="c")

PATHS = [chain(asked, *STEPS[:depth]) for asked in (ASKED, OTHER, TEXT) for depth in (1, 2, 3)]
FINAL = chain(ASKED, *STEPS[:2], "Step 3: To sum up, the final answer is: 4.", answer="4")


def scores(scorer: Scorer, paths: Sequence[Path]) -> list[float]:
    """Scores all paths at once, as a run does."""

    async def together() -> list[Any]:
        return await asyncio.gather(*(scorer.score(path) for path in paths))

    return [score.value for score in asyncio.run(together())]


def logits_of(model: Any, ids: Sequence[int], **inputs: torch.Tensor) -> torch.Tensor:
    """Logits `[tokens, outputs]` of one row, without padding or anything of ours."""
    row = torch.tensor([list(ids)])
    with torch.inference_mode():
        return model(**inputs, input_ids=row, attention_mask=torch.ones_like(row)).logits[0]


def copy(source: FilePath, target: FilePath) -> FilePath:
    """A copy of a model's folder, to be changed."""
    target.mkdir()
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target
