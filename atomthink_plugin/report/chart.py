"""Charts of scaling curves: accuracy against policy tokens and against wall time."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Final

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.report.scaling_curve import CurvePoint

COLOURS: Final = {"pass": "#8a8a8a", "majority": "#1f50c8", "weighted": "#d9730d", "best_of_n": "#1a8a4a"}
NAMES: Final = {"pass": "pass@N", "majority": "majority", "weighted": "weighted", "best_of_n": "best of N"}
UNSCORED: Final = "no scores"
DASHES: Final = {UNSCORED: [1, 0], "mean": [1, 0], "min": [4, 2], "prod": [1, 2], "last": [8, 2, 1, 2, 1, 2]}

_SCALE: Final = 2.0  # pixels of the PNG per pixel of the SVG


def draw(points: Sequence[CurvePoint], titles: Sequence[str], latency: bool = False) -> dict[str, bytes]:
    """Returns the chart as `svg` and `png`.

    Args:
        points: The points of all curves.
        titles: The title and the subtitles.
        latency: Whether the seconds of the points are latencies.

    Raises:
        AtomThinkError: The libraries of the extra `report` are not installed.
    """
    try:
        import altair  # noqa: F401
        import vl_convert  # noqa: F401
    except ImportError as error:
        raise AtomThinkError(f"charts need `pip install 'atomthink-plugin[report]'` ({error})") from None
    chart = _chart(points, titles, latency)
    svg, png = io.StringIO(), io.BytesIO()
    chart.save(svg, format="svg")
    chart.save(png, format="png", scale_factor=_SCALE)
    return {"svg": svg.getvalue().encode(), "png": png.getvalue()}


def _chart(points: Sequence[CurvePoint], titles: Sequence[str], latency: bool) -> Any:
    import altair as alt

    rows = [_row(point) for point in points]
    panels = [
        _panel(rows, "tokens", "policy tokens per question"),
        _panel(rows, "seconds", "estimated latency, s" if latency else "estimated wall time per question, s"),
    ]
    title = alt.TitleParams(titles[0], subtitle=list(titles[1:]))
    chart = alt.hconcat(*panels, title=title).configure_view(stroke=None)
    return chart.configure_axis(gridColor="#e4e4e4").configure_legend(symbolStrokeWidth=2, symbolOpacity=1)


def _row(point: CurvePoint) -> dict[str, Any]:
    accuracy, low, high = (100 * share for share in point.accuracy)
    return {
        "search": NAMES[point.method.search],
        "aggregate": point.method.aggregate or UNSCORED,
        "candidates": point.n,
        "tokens": point.tokens,
        "seconds": point.seconds,
        "accuracy": accuracy,
        "low": low,
        "high": high,
    }


def _panel(rows: Sequence[dict[str, Any]], against: str, title: str) -> Any:
    """Returns lines by search and aggregate. The axis is logarithmic, because the candidates double."""
    import altair as alt

    searches = [name for name in NAMES.values() if any(row["search"] == name for row in rows)]
    aggregates = [name for name in DASHES if any(row["aggregate"] == name for row in rows)]
    colours = [colour for search, colour in COLOURS.items() if NAMES[search] in searches]
    base = alt.Chart(alt.InlineData(values=list(rows))).encode(
        x=alt.X(
            f"{against}:Q",
            title=title,
            scale=alt.Scale(type="log", nice=False),
            axis=alt.Axis(format="~g", labelOverlap="greedy", labelSeparation=6),
        ),
        color=alt.Color(
            "search:N",
            scale=alt.Scale(domain=searches, range=colours),
            legend=alt.Legend(title="search", symbolSize=120),
        ),
    )
    aggregate = alt.StrokeDash(
        "aggregate:N",
        scale=alt.Scale(domain=aggregates, range=[DASHES[name] for name in aggregates]),
        # Legend lines are as long as symbols are wide. This size shows every dash pattern.
        legend=alt.Legend(title="step scores", symbolSize=1000),
    )
    accuracy = alt.Y("accuracy:Q", title="accuracy, %", scale=alt.Scale(zero=False))
    lines = base.mark_line(strokeWidth=1.8).encode(y=accuracy, strokeDash=aggregate)
    dots = base.mark_point(filled=True, size=28, opacity=1).encode(y=accuracy)
    spans = base.mark_rule(opacity=0.3, strokeWidth=1.5).encode(y="low:Q", y2="high:Q")
    return alt.layer(spans, lines, dots).properties(width=360, height=300)
