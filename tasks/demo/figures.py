"""Draws the figures of demo questions. The same specification always gives the same image.

Numbers are centred on cells of 32 pixels, within `WOBBLE` pixels. The embedded model's vision tower has patches on the
same grid, and a tower of this size can learn to read numbers there. Every image has Gaussian noise with a random
standard deviation up to `GRAIN`. People can read it, but a tower of this size misreads some of the numbers.
"""

from __future__ import annotations

import math
import random
from functools import cache
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from atomthink_plugin.tasks.demo.questions import DemoQuestion, Figure

SIZE: Final = 224
CELL: Final = 32
WOBBLE: Final = 4
AXIS_TOP: Final = 10
GRAIN: Final = 50.0  # of 255: the largest standard deviation of the noise

PALETTE: Final[dict[str, tuple[int, int, int]]] = {
    "red": (214, 39, 40),
    "blue": (31, 80, 200),
    "green": (30, 140, 50),
    "orange": (245, 140, 10),
    "purple": (140, 50, 180),
    "teal": (20, 165, 170),
}
_BACKGROUND: Final = (255, 255, 255)
_AXIS: Final = (40, 40, 40)
_GRID: Final = (205, 205, 205)

Point = tuple[float, float]


def draw(spec: DemoQuestion | Figure) -> Image.Image:
    """Returns the RGB image of a question's figure, 224x224 pixels."""
    figure = spec.figure if isinstance(spec, DemoQuestion) else spec
    image = Image.new("RGB", (SIZE, SIZE), _BACKGROUND)
    painter = {"bars": _bars, "polygon": _polygon, "rectangles": _rectangles}[figure.kind]
    painter(ImageDraw.Draw(image), figure, random.Random(figure.layout))
    return _grainy(image, figure.layout)


def _grainy(image: Image.Image, seed: int) -> Image.Image:
    """Adds Gaussian noise. `RandomState` gives the same numbers in every release of numpy."""
    random_state = np.random.RandomState(seed)
    strength = random_state.uniform(0, GRAIN)
    noise = random_state.normal(0, strength, (image.height, image.width, 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def _bars(canvas: ImageDraw.ImageDraw, figure: Figure, rng: random.Random) -> None:
    """Draws bars over a value axis with a random origin and length."""
    left, right = 34, SIZE - 8
    base, top = rng.randint(196, 208), rng.randint(12, 28)
    unit = (base - top) / AXIS_TOP
    for tick in range(0, AXIS_TOP + 1, 2):
        y = round(base - tick * unit)
        canvas.line((left, y, right, y), fill=_GRID if tick else _AXIS, width=2)
        canvas.text((left - 6, y), str(tick), fill=_AXIS, font=_font(16), anchor="rm")
    canvas.line((left, top, left, base), fill=_AXIS, width=2)
    slot = (right - left) / len(figure.items)
    for index, (name, value) in enumerate(figure.items):
        width = slot * rng.uniform(0.5, 0.75)
        centre = left + slot * (index + 0.5) + rng.uniform(-2, 2)
        box = (round(centre - width / 2), round(base - value * unit), round(centre + width / 2), base - 1)
        canvas.rectangle(box, fill=PALETTE[name])


def _polygon(canvas: ImageDraw.ImageDraw, figure: Figure, rng: random.Random) -> None:
    """Draws a polygon, not to scale, with a coloured number beside each coloured side."""
    while True:
        corners = _corners(len(figure.items), rng)
        sides = list(zip(corners, corners[1:] + corners[:1], strict=True))
        cells = [_outward_cell(side) for side in sides]
        if len(set(cells)) == len(cells) and all(_clear(cell, side) for cell in cells for side in sides):
            break
    for (name, _), side in zip(figure.items, sides, strict=True):
        canvas.line(side, fill=PALETTE[name], width=5)
    for x, y in corners:
        canvas.ellipse((x - 3, y - 3, x + 3, y + 3), fill=_AXIS)
    for (name, value), cell in zip(figure.items, cells, strict=True):
        _label(canvas, cell, value, name, rng)


def _corners(count: int, rng: random.Random) -> list[Point]:
    turn = rng.uniform(0, 2 * math.pi)
    angles = [turn + 2 * math.pi * (i + rng.uniform(-0.12, 0.12)) / count for i in range(count)]
    radii = [rng.uniform(62, 80) for _ in angles]
    middle = SIZE / 2
    return [(middle + r * math.cos(a), middle + r * math.sin(a)) for a, r in zip(angles, radii, strict=True)]


def _outward_cell(side: tuple[Point, Point]) -> tuple[int, int]:
    """Returns the grid cell outside the middle of a side."""
    x, y = ((a + b) / 2 - SIZE / 2 for a, b in zip(*side, strict=True))
    reach = 1 + 28 / math.hypot(x, y)
    column, row = (int((SIZE / 2 + reach * offset) // CELL) for offset in (x, y))
    return column, row


def _clear(cell: tuple[int, int], side: tuple[Point, Point]) -> bool:
    """Returns whether a number in `cell` does not touch `side`."""
    x, y = (CELL * place + CELL / 2 for place in cell)
    (x1, y1), (x2, y2) = side
    along = ((x - x1) * (x2 - x1) + (y - y1) * (y2 - y1)) / ((x2 - x1) ** 2 + (y2 - y1) ** 2)
    along = min(max(along, 0.0), 1.0)
    return math.hypot(x1 + along * (x2 - x1) - x, y1 + along * (y2 - y1) - y) > 19


def _rectangles(canvas: ImageDraw.ImageDraw, figure: Figure, rng: random.Random) -> None:
    """Draws two rectangles, not to scale, with the width below and the height to the left."""
    spans = [(0, 3), (3, 7)]  # columns of the grid
    rng.shuffle(spans)
    for start, (first, last) in zip((0, 2), spans, strict=True):
        (name, width), (_, height) = figure.items[start : start + 2]
        colour = name.split()[0]
        left, right = CELL * (first + 1) + rng.randint(3, 8), CELL * last - rng.randint(4, 16)
        row = rng.randint(3, 6)
        top, bottom = rng.randint(8, CELL * row - 64), CELL * row - 3
        canvas.rectangle((left, top, right, bottom), outline=PALETTE[colour], width=5)
        column = int((left + right) / 2) // CELL
        _label(canvas, (column, row), width, colour, rng)
        _label(canvas, (first, int((top + bottom) / 2) // CELL), height, colour, rng)


def _label(canvas: ImageDraw.ImageDraw, cell: tuple[int, int], value: int, colour: str, rng: random.Random) -> None:
    centre = (CELL * place + CELL / 2 + rng.uniform(-WOBBLE, WOBBLE) for place in cell)
    x, y = (min(max(place, 18), SIZE - 18) for place in centre)
    fill = PALETTE[colour]
    canvas.text((x, y), str(value), fill=fill, font=_font(25), anchor="mm", stroke_width=1, stroke_fill=fill)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
