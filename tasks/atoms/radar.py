"""A radar chart of abilities as SVG, and the page around it: one file that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final

from atomthink_plugin.tasks.atoms.quality import Capability, Estimate

WIDTH: Final = 720
HEIGHT: Final = 480
RADIUS: Final = 160
RINGS: Final = (0.25, 0.5, 0.75, 1.0)
COLOUR: Final = "#1f50c8"
HEADINGS: Final = ("ability", "quality, %", "utilisation, %", "gain, %", "steps", "chains")

_STYLE: Final = (
    "body{font:15px sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:right;border-bottom:1px solid #ddd}"
    "td:first-child,th:first-child{text-align:left}svg text{font:13px sans-serif}"
)


def radar(rows: Sequence[Capability]) -> str:
    """Returns the chart of the abilities' quality, with the interval as a band, as an SVG element.

    Abilities without a value have an axis and no point. Fewer than three axes leave a line, not an area.
    """
    axes = [row for row in rows if row.group]
    drawn = [(i, row.quality) for i, row in enumerate(axes) if row.quality is not None]
    parts = [_polygon([_point(i, len(axes), ring) for i in range(len(axes))], "none", "#ccc") for ring in RINGS]
    parts += [_spoke(i, len(axes), row) for i, row in enumerate(axes)]
    high, low = ([_point(i, len(axes), getattr(e, end)) for i, e in drawn] for end in ("high", "low"))
    band = "M" + " L".join(high) + " Z M" + " L".join(low) + " Z" if drawn else ""
    parts.append(f'<path d="{band}" fill="{COLOUR}" fill-opacity="0.18" fill-rule="evenodd"/>')
    points = [_point(i, len(axes), e.value) for i, e in drawn]
    parts.append(_polygon(points, "none", COLOUR, 2))
    for point in points:
        x, y = point.split(",")
        parts.append(f'<circle cx="{x}" cy="{y}" r="3.5" fill="{COLOUR}"/>')
    box = f"0 0 {WIDTH} {HEIGHT}"
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" width="{WIDTH}">{"".join(parts)}</svg>'


def page(title: str, rows: Sequence[Capability], notes: Sequence[str]) -> str:
    """Returns an HTML page with the chart and the table."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in HEADINGS)
    body = "".join(
        f"<tr><td>{escape(row.name if row.group else row.name.upper())}</td><td>{shown(row.quality)}</td>"
        f"<td>{shown(row.utilisation)}</td><td>{shown(row.gain)}</td><td>{row.records}</td><td>{row.chains}</td></tr>"
        for row in rows
    )
    below = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
        f"<h1>{escape(title)}</h1>{radar(rows)}<table><tr>{head}</tr>{body}</table>{below}</html>\n"
    )


def shown(estimate: Estimate | None) -> str:
    """Returns an estimate in percent, with its interval, as it is printed.

    Example:
        >>> shown(Estimate(0.5, 0.41, 0.6)), shown(None)
        ('50 [41, 60]', '')
    """
    if estimate is None:
        return ""
    value, low, high = (round(100 * number) for number in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def _spoke(index: int, count: int, row: Capability) -> str:
    x, y = _point(index, count, 1.0).split(",")
    left, top = _point(index, count, 1.12).split(",")
    side = math.cos(_angle(index, count))
    anchor = "middle" if abs(side) < 0.2 else "start" if side > 0 else "end"
    line = f'<line x1="{WIDTH / 2}" y1="{HEIGHT / 2}" x2="{x}" y2="{y}" stroke="#ccc"/>'
    label = f"{escape(row.name)} {row.quality.value:.0%}" if row.quality is not None else f"{escape(row.name)} –"
    return line + f'<text x="{left}" y="{top}" text-anchor="{anchor}" dominant-baseline="middle">{label}</text>'


def _polygon(points: Sequence[str], fill: str, stroke: str, width: float = 1) -> str:
    return f'<polygon points="{" ".join(points)}" fill="{fill}" stroke="{stroke}" stroke-width="{width}"/>'


def _point(index: int, count: int, value: float) -> str:
    angle, reach = _angle(index, count), RADIUS * min(max(value, 0.0), 1.15)
    return f"{WIDTH / 2 + reach * math.cos(angle):.1f},{HEIGHT / 2 + reach * math.sin(angle):.1f}"


def _angle(index: int, count: int) -> float:
    return 2 * math.pi * index / count - math.pi / 2
