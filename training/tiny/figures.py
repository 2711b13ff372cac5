"""The figures of the embedded model's training data, and their pictures."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

from PIL import Image

from atomthink_plugin.tasks.demo.figures import draw
from atomthink_plugin.tasks.demo.questions import DemoQuestion, Figure, draw_figure, draw_question

FIGURES: Final = "figures"
IMAGE_SIDE: Final = 112
"""Pixels of a side of the pictures: what the model sees."""


class Figures:
    """Training figures with pictures in a folder; many questions are asked about each.

    Args:
        folder: The folder with `figures/`.
        size: Number of figures.
        seed: Seed of their content.
    """

    def __init__(self, folder: Path, size: int, seed: int) -> None:
        rng = random.Random(f"figures {seed}")
        self.folder = folder
        self.all = [draw_figure(rng) for _ in range(size)]

    def file(self, index: int) -> str:
        """Returns the file name of a picture, relative to the folder."""
        return f"{FIGURES}/{index:05}.png"

    def draw(self) -> None:
        """Writes all pictures in the size of the model's input, resized as by its image processor."""
        (self.folder / FIGURES).mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor() as pool:
            files = [self.folder / self.file(index) for index in range(len(self.all))]
            list(pool.map(_draw, self.all, files, chunksize=100))

    def questions(self, rng: random.Random) -> Iterator[tuple[DemoQuestion, str]]:
        """Yields questions that are not held out, with their pictures, endlessly."""
        while True:
            index = rng.randrange(len(self.all))
            question = draw_question(self.all[index], rng)
            if not question.held_out:
                yield question, self.file(index)


def _draw(figure: Figure, file: Path) -> None:
    side = (IMAGE_SIDE, IMAGE_SIDE)
    draw(figure).resize(side, Image.Resampling.BICUBIC).save(file, compress_level=1)
