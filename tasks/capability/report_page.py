"""The report as an HTML page with a radar chart. The page is one file without external resources."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Final, Literal

from atomthink_plugin.report.output_files import base_style
from atomthink_plugin.tasks.capability.estimates import Capability, RateEstimate

RADIUS: Final = 150
LETTER: Final = 7.4
"""Width of a letter of a label, at most."""

LINE: Final = 16  # height of a line of a label
RINGS: Final = (0.25, 0.5, 0.75, 1.0)
HEADINGS: Final = ("ability", "quality, %", "utilisation, %", "gain, %", "steps", "chains")

_STYLE: Final = """
body { max-width: 60rem; margin: 0 auto; padding: 1.2rem 1rem 3rem; }
h1 { font-size: 1.15rem; font-weight: 650; margin-bottom: 1rem; overflow-wrap: anywhere; }
.panel {
  background: var(--panel); border: 1px solid var(--rule); border-radius: 12px; padding: 1rem 1.1rem;
  margin-bottom: 1.1rem; overflow-x: auto;
}
svg { display: block; margin: 0 auto; max-width: 100%; height: auto; }
svg text { fill: var(--ink); font-size: 13px; }
svg .scale, svg .value { fill: var(--quiet); font-size: 11px; }
svg .value { font-size: 13px; }
.ring, .spoke { fill: none; stroke: var(--unscored); }
.band { fill: var(--accent); fill-opacity: .18; }
.line { fill: none; stroke: var(--accent); stroke-width: 2; }
.point { fill: var(--accent); }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.4rem; font-size: .84rem; color: var(--quiet); }
.legend svg { display: inline; width: 1.4rem; vertical-align: middle; margin-right: .4rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .92rem; }
th { font-weight: 500; color: var(--quiet); font-size: .8rem; }
th, td { padding: .25rem .8rem .25rem 0; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; }
tbody { border-top: 1px solid var(--rule); }
tbody.totals td { font-weight: 600; }
p { color: var(--quiet); font-size: .88rem; margin-top: .5rem; }
"""


def radar(rows: Sequence[Capability]) -> str:
    """Returns the chart of the abilities' quality, with the interval as a band, as an SVG element.

    An ability without a value has an axis and no point. With fewer than three axes, the area is a line. The colours
    come from the page's style sheet.
    """
    axes = [row for row in rows if row.group]
    drawn = [(i, row.quality) for i, row in enumerate(axes) if row.quality is not None]
    parts = [_polygon([_point(i, len(axes), ring) for i in range(len(axes))], "ring") for ring in RINGS]
    parts += [_spoke(i, len(axes), row) for i, row in enumerate(axes)]
    parts += [_scale(ring) for ring in RINGS]
    high, low = ([_point(i, len(axes), getattr(e, end)) for i, e in drawn] for end in ("high", "low"))
    band = "M" + " L".join(high) + " Z M" + " L".join(low) + " Z" if drawn else ""
    parts.append(f'<path class="band" d="{band}" fill-rule="evenodd"/>')
    points = [_point(i, len(axes), e.value) for i, e in drawn]
    parts.append(_polygon(points, "line"))
    for point in points:
        x, y = point.split(",")
        parts.append(f'<circle class="point" cx="{x}" cy="{y}" r="3.5"/>')
    return _svg(parts, _bounds(axes))


def _svg(parts: Sequence[str], box: tuple[float, float, float, float]) -> str:
    left, top, right, bottom = box
    size = f'viewBox="{left:.0f} {top:.0f} {right - left:.0f} {bottom - top:.0f}" width="{1.15 * (right - left):.0f}"'
    head = f'xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="quality by ability"'
    return f"<svg {head}>{''.join(parts)}</svg>"


def page(title: str, rows: Sequence[Capability], notes: Sequence[str]) -> str:
    """Returns an HTML page with the chart and the table."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in HEADINGS)
    members = Counter(row.group for row in rows)
    abilities = "".join(_line(row) for row in rows if row.group)
    totals = "".join(_line(row) for row in rows if not row.group and members[row.name] != 1)
    below = "".join(f"<p>{escape(note)}</p>" for note in notes)
    key = '<svg viewBox="0 0 22 10"><path class="{0}" d="M0 {1}h22v{2}h-22z"/></svg>'
    legend = f"<span>{key.format('line', 4, 1)}quality</span><span>{key.format('band', 0, 10)}95 % interval</span>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{base_style()}{_STYLE}</style></head><body><h1>{escape(title)}</h1>"
        f'<section class="panel">{radar(rows)}<div class="legend">{legend}</div></section>'
        f'<section class="panel"><table><thead><tr>{head}</tr></thead><tbody>{abilities}</tbody>'
        f'<tbody class="totals">{totals}</tbody></table>{below}</section></body></html>\n'
    )


def percent(estimate: RateEstimate | None) -> str:
    """Returns an estimate and its interval in percent, as they are printed.

    Example:
        >>> percent(RateEstimate(0.5, 0.41, 0.6)), percent(None)
        ('50 [41, 60]', '')
    """
    if estimate is None:
        return ""
    value, low, high = (round(100 * number) for number in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def _line(row: Capability) -> str:
    cells = (
        row.name,
        percent(row.quality),
        percent(row.utilisation),
        percent(row.gain),
        str(row.records),
        str(row.chains),
    )
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _spoke(index: int, count: int, row: Capability) -> str:
    x, y = _point(index, count, 1.0).split(",")
    left, top, anchor = _label(index, count)
    value = "–" if row.quality is None else f"{row.quality.value:.0%}"
    return (
        f'<line class="spoke" x1="0" y1="0" x2="{x}" y2="{y}"/>'
        f'<text x="{left:.1f}" y="{top:.1f}" text-anchor="{anchor}">{escape(row.name)}</text>'
        f'<text class="value" x="{left:.1f}" y="{top + LINE:.1f}" text-anchor="{anchor}">{value}</text>'
    )


def _label(index: int, count: int) -> tuple[float, float, Literal["start", "middle", "end"]]:
    """Returns the place of an axis' label, which has two lines, and the side that it starts from."""
    angle = _angle(index, count)
    x, y = 1.08 * RADIUS * math.cos(angle), 1.08 * RADIUS * math.sin(angle)
    top = y - LINE / 4 + LINE * 0.7 * math.sin(angle)  # above the axis at the top, below it at the bottom
    side = math.cos(angle)
    return x, top, "middle" if abs(side) < 0.2 else "start" if side > 0 else "end"


def _bounds(axes: Sequence[Capability]) -> tuple[float, float, float, float]:
    """Returns left, top, right and bottom of the chart with its labels."""
    corners = [_point(i, len(axes), 1.0).split(",") for i in range(len(axes))]
    across, down = [float(x) for x, _ in corners], [float(y) for _, y in corners]
    for i, row in enumerate(axes):
        x, y, anchor = _label(i, len(axes))
        width = LETTER * len(row.name)
        left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
        across += [left, left + width]
        down += [y - LINE, y + LINE + 6]
    return min(across) - 4, min(down), max(across) + 4, max(down)


def _scale(ring: float) -> str:
    """Returns the value of a ring, beside the first axis, which points upwards."""
    return f'<text class="scale" x="4" y="{12 - RADIUS * ring}">{ring:.0%}</text>'


def _polygon(points: Sequence[str], style: str) -> str:
    return f'<polygon class="{style}" points="{" ".join(points)}"/>'


def _point(index: int, count: int, value: float) -> str:
    angle, reach = _angle(index, count), RADIUS * min(max(value, 0.0), 1.15)
    return f"{reach * math.cos(angle):.1f},{reach * math.sin(angle):.1f}"


def _angle(index: int, count: int) -> float:
    return 2 * math.pi * index / count - math.pi / 2
