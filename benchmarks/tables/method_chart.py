"""The figure of all searches and formats: accuracy against tokens, as SVG for light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.tables.results import Record, load

WIDTH, HEIGHT = 900, 640
LEFT, RIGHT, TOP, BOTTOM = 56, 24, 44, 48
LETTER, LINE = 6.1, 13.0
"""Size of a label's text, in pixels."""

FAMILIES = {
    "one chain": ("#6b7280", "#9ca3af"),
    "vote": ("#1f50c8", "#7aa2ff"),
    "PRM on chains": ("#c2570c", "#fb923c"),
    "PRM on steps": ("#14803c", "#4ade80"),
    "policy's confidence": ("#0e7490", "#22d3ee"),
    "judged by the policy": ("#8a2be2", "#c79bff"),
    "further prompts": ("#b91c5c", "#f472b6"),
}
"""Colours on light and on dark pages."""

STYLE = """text { font: 11px system-ui, sans-serif; fill: #1f2328 } .axis { stroke: #d0d7de } .lead { stroke: #8c959f }
.back { fill: #ffffff } @media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .axis { stroke: #3d444d }
.back { fill: #1b1f27 } }"""


@dataclass(frozen=True)
class Box:
    """A rectangle: what a label or a mark covers."""

    x: float
    y: float
    width: float
    height: float

    def overlap(self, other: Box) -> float:
        """Returns the area that both cover."""
        wide = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        high = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        return max(wide, 0.0) * max(high, 0.0)


def methods_svg() -> str:
    """Returns the figure."""
    rows = load("methods")["rows"]
    low, high = 2.0, max(row["tokens_per_question"] for row in rows) * 1.6
    top = 10 * math.ceil(max(row["accuracy"] for row in rows) * 10 + 0.2)

    def at(row: Record) -> tuple[float, float]:
        share = math.log(max(row["tokens_per_question"], low) / low) / math.log(high / low)
        x = LEFT + share * (WIDTH - LEFT - RIGHT)
        return x, HEIGHT - BOTTOM - 100 * row["accuracy"] / top * (HEIGHT - TOP - BOTTOM)

    points = [at(row) for row in rows]
    parts = [
        *frame(low, high, top),
        *legend(),
        *marks(rows, points),
        *labels([row["thinking"] for row in rows], points),
    ]
    colours = [f".{key(name)} {{ fill: {light}; stroke: {light} }}" for name, (light, _) in FAMILIES.items()]
    dark = [f".{key(name)} {{ fill: {dark}; stroke: {dark} }}" for name, (_, dark) in FAMILIES.items()]
    style = (
        f"{STYLE} {' '.join(colours)} .open {{ fill: none }} @media (prefers-color-scheme: dark) {{ {' '.join(dark)} }}"
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">'
    title = "<title>Accuracy against tokens per question, all searches and formats</title>"
    back = f'<rect class="back" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
    return "\n".join([head, title, f"<style>{style} .open {{ fill: none }}</style>", back, *parts, "</svg>\n"])


def key(family: str) -> str:
    return "".join(letter for letter in family.lower() if letter.isalpha())


def frame(low: float, high: float, top: int) -> Iterable[str]:
    """Draws the axes, the grid and their numbers."""
    for share in range(0, top + 1, 10):
        y = HEIGHT - BOTTOM - share / top * (HEIGHT - TOP - BOTTOM)
        yield f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{share}</text>'
    for tokens in (tick * 10**power for power in range(5) for tick in (1, 2, 5)):
        if low <= tokens <= high:
            x = LEFT + math.log(tokens / low) / math.log(high / low) * (WIDTH - LEFT - RIGHT)
            yield f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM + 5}"/>'
            yield f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{tokens:,}</text>'
    yield f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end">generated tokens per question</text>'
    yield f'<text x="8" y="{TOP - 8}">accuracy, %</text>'


def legend() -> Iterable[str]:
    x = LEFT + 8.0
    for family in FAMILIES:
        yield f'<circle class="{key(family)}" cx="{x}" cy="14" r="4"/><text x="{x + 8}" y="18">{family}</text>'
        x += 26 + LETTER * len(family)
    yield f'<circle class="{key("one chain")} open" cx="{x}" cy="14" r="4"/><text x="{x + 8}" y="18">fine-tuned</text>'


def marks(rows: Sequence[Record], points: Sequence[tuple[float, float]]) -> Iterable[str]:
    for row, (x, y) in zip(rows, points, strict=True):
        style = key(row["family"]) + ("" if row["policy"] == "embedded" else " open")
        label = f"{row['thinking']}: {100 * row['accuracy']:.1f} %, {row['tokens_per_question']:,.0f} tokens"
        yield f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{escape(label)}</title></circle>'


def labels(names: Sequence[str], points: Sequence[tuple[float, float]]) -> Iterable[str]:
    """Places each label near its mark, where it covers least of the marks and labels that are there already."""
    taken = [Box(x - 5, y - 5, 10, 10) for x, y in points]
    for name, (x, y) in sorted(zip(names, points, strict=True), key=lambda pair: pair[1]):
        width = LETTER * len(name)
        box = min(
            places(x, y, width), key=lambda place: (sum(place.overlap(other) for other in taken), far(place, x, y))
        )
        taken.append(Box(box.x - 4, box.y, width + 8, LINE))
        if far(box, x, y) > 8:
            edge = min(max(x, box.x), box.x + width), min(max(y, box.y), box.y + LINE)
            yield f'<line class="lead" x1="{x:.1f}" y1="{y:.1f}" x2="{edge[0]:.1f}" y2="{edge[1]:.1f}"/>'
        yield f'<text x="{box.x:.1f}" y="{box.y + LINE - 3:.1f}">{escape(name)}</text>'


def places(x: float, y: float, width: float) -> Iterable[Box]:
    """Returns the places for a label of that width around a mark, inside the figure."""
    for ring in range(1, 9):
        for left in (x + 7 * ring, x - 7 * ring - width, x - width / 2):
            for step in range(-ring, ring + 1):
                box = Box(left, y + step * LINE - LINE / 2, width, LINE)
                if box.x > LEFT and box.x + width < WIDTH - 4 and box.y > TOP and box.y + LINE < HEIGHT - BOTTOM - 2:
                    yield box


def far(box: Box, x: float, y: float) -> float:
    """Returns the distance of a point from a rectangle."""
    return math.hypot(max(box.x - x, 0.0, x - box.x - box.width), max(box.y - y, 0.0, y - box.y - box.height))
