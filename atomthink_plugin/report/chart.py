"""Charts of accuracy against what it costs: the number of candidates, policy tokens or wall time."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from atomthink_plugin.api import AtomThinkError

COLOURS: Final = {
    "pass": "#8a8a8a",
    "majority": "#1f50c8",
    "weighted": "#d9730d",
    "best_of_n": "#1a8a4a",
    "single": "#8a5ac8",
}
NAMES: Final = {
    "pass": "pass@N",
    "majority": "majority",
    "weighted": "weighted",
    "best_of_n": "best of N",
    "single": "single candidate",
}
UNSCORED: Final = "no scores"
DASHES: Final = {
    UNSCORED: [1, 0],
    "mean": [9, 3],
    "min": [4, 2],
    "prod": [1, 2],
    "log_odds": [9, 2, 4, 2],
    "last": [9, 2, 1, 2, 1, 2],
}
SHAPES: Final = {
    "pass": "circle",
    "majority": "square",
    "weighted": "diamond",
    "best_of_n": "triangle-up",
    "single": "cross",
}

_SCALE: Final = 2.0  # pixels of the PNG per pixel of the SVG


@dataclass(frozen=True, slots=True)
class ChartPanel:
    """One diagram of a chart.

    Attributes:
        rows: The points, see `chart_row`.
        against: The field of the horizontal axis: `n`, `tokens` or `seconds`.
        label: The label of that axis.
        title: The text above the diagram.
    """

    rows: Sequence[dict[str, Any]]
    against: str
    label: str
    title: str = ""


def draw(points: Sequence[Mapping[str, Any]], titles: Sequence[str], latency: bool = False) -> dict[str, bytes]:
    """Returns the chart of a scaling curve as `svg` and `png`.

    Args:
        points: The points of all curves, as in the JSON of `atomthink scale`.
        titles: The title and the subtitles.
        latency: Whether the seconds of the points are latencies.

    Raises:
        AtomThinkError: The libraries of the extra `report` are not installed.
    """
    rows = [chart_row(point, tokens=point["tokens"], seconds=point["estimated_seconds"]) for point in points]
    panels = [
        ChartPanel(rows, "tokens", "policy tokens per question"),
        ChartPanel(rows, "seconds", "estimated latency, s" if latency else "estimated wall time per question, s"),
    ]
    return draw_panels(panels, titles)


def draw_panels(panels: Sequence[ChartPanel], titles: Sequence[str]) -> dict[str, bytes]:
    """Returns a chart of diagrams side by side as `svg` and `png`.

    Args:
        panels: The diagrams.
        titles: The title and the subtitles.

    Raises:
        AtomThinkError: The libraries of the extra `report` are not installed.
    """
    require_charts()
    import altair as alt

    title = alt.TitleParams(titles[0], subtitle=list(titles[1:]), anchor="start", fontSize=15, subtitleFontSize=12)
    chart = alt.hconcat(*map(_panel, panels), title=title, spacing=36).resolve_scale(y="shared")
    chart = chart.configure_view(stroke=None)
    chart = chart.configure_axis(gridColor="#e8e8e8", labelFontSize=12, titleFontSize=12).configure_legend(
        labelFontSize=12, titleFontSize=12, symbolStrokeWidth=2, symbolOpacity=1
    )
    svg, png = io.StringIO(), io.BytesIO()
    chart.save(svg, format="svg")
    chart.save(png, format="png", scale_factor=_SCALE)
    return {"svg": svg.getvalue().encode(), "png": png.getvalue()}


def require_charts() -> None:
    """Raises AtomThinkError if the libraries of the extra `report` are not installed."""
    try:
        import altair  # noqa: F401
        import vl_convert  # noqa: F401
    except ImportError as error:
        raise AtomThinkError(f"charts need `pip install 'atomthink-plugin[report]'` ({error})") from None


def chart_row(point: Mapping[str, Any], **against: float) -> dict[str, Any]:
    """Returns a point of a diagram.

    Args:
        point: Its `search`, `aggregate`, `n`, `accuracy`, `low` and `high`, the last three in [0, 1].
        **against: Its places on horizontal axes.
    """
    return {
        "search": NAMES[point["search"]],
        "aggregate": point["aggregate"] or UNSCORED,
        "candidates": f"N={point['n']}" if point["n"] == 1 else str(point["n"]),
        "accuracy": 100 * point["accuracy"],
        "low": 100 * point["low"],
        "high": 100 * point["high"],
        **against,
    }


def _panel(panel: ChartPanel) -> Any:
    """Returns lines by search and aggregate. The axis is logarithmic, because the candidates double."""
    import altair as alt

    rows, against = panel.rows, panel.against
    aggregates = [name for name in DASHES if any(row["aggregate"] == name for row in rows)]
    aggregate = alt.StrokeDash(
        "aggregate:N",
        scale=alt.Scale(domain=aggregates, range=[DASHES[name] for name in aggregates]),
        # Legend lines are as long as symbols are wide. This size shows every dash pattern.
        legend=alt.Legend(title="step scores", symbolSize=1000),
    )
    accuracy = alt.Y("accuracy:Q", title="accuracy, %", scale=alt.Scale(zero=False))
    base, shape = _by_search(rows, against, panel.label)
    # Weighted votes and best of N often have the same accuracy. A wide line is seen below a narrow one.
    wide = base.transform_filter(alt.datum.search == NAMES["weighted"]).mark_line(strokeWidth=5, opacity=0.35)
    layers = [
        base.mark_rule(opacity=0.2, strokeWidth=1.5).encode(y="low:Q", y2="high:Q"),
        wide.encode(y=accuracy, strokeDash=aggregate),
        base.mark_line(strokeWidth=1.8).encode(y=accuracy, strokeDash=aggregate),
        base.mark_point(filled=True, size=40, opacity=1).encode(y=accuracy, shape=shape),
    ]
    if against != "n":
        layers.append(_sizes([row for row in rows if row["search"] == NAMES["pass"]], against, left=True))
    if against == "seconds":  # scoring takes seconds, so that scored points have a place of their own
        layers.append(_sizes([row for row in rows if row["aggregate"] not in (UNSCORED, "last")], against, left=False))
    return alt.layer(*layers).properties(width=400, height=340, title=panel.title)


def _by_search(rows: Sequence[dict[str, Any]], against: str, title: str) -> tuple[Any, Any]:
    """Returns a chart with a colour for each search, and the shapes of its points."""
    import altair as alt

    searches = [search for search in NAMES if any(row["search"] == NAMES[search] for row in rows)]
    names, colours, shapes = ([of[search] for search in searches] for of in (NAMES, COLOURS, SHAPES))
    values = [row[against] for row in rows if row[against] > 0]
    base = alt.Chart(alt.InlineData(values=list(rows))).encode(
        x=alt.X(
            f"{against}:Q",
            title=title,
            scale=alt.Scale(type="log", nice=False, padding=40),
            axis=alt.Axis(format="~g", values=sorted(set(values)) if against == "n" else _ticks(values)),
        ),
        color=alt.Color("search:N", scale=alt.Scale(domain=names, range=colours), legend=alt.Legend(title="search")),
    )
    return base, alt.Shape("search:N", scale=alt.Scale(domain=names, range=shapes))


def _sizes(rows: Sequence[dict[str, Any]], against: str, left: bool) -> Any:
    """Returns the numbers of candidates beside the highest of the points with each number."""
    import altair as alt

    highest: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: row["accuracy"]):
        highest[row["candidates"]] = row
    side: dict[str, Any] = {"align": "right", "dx": -8, "dy": -7} if left else {"align": "left", "dx": 9, "dy": 7}
    text = alt.Chart(alt.InlineData(values=list(highest.values()))).mark_text(fontSize=11, color="#444", **side)
    return text.encode(x=f"{against}:Q", y="accuracy:Q", text="candidates:N")


def _ticks(values: Sequence[float]) -> list[float]:
    """Returns round numbers within the range of the values, at least three if the range has them.

    Example:
        >>> _ticks([0.03, 0.6]), _ticks([52, 83])
        ([0.05, 0.1, 0.2, 0.5], [60.0, 70.0, 80.0])
    """
    low, high = min(values, default=1.0), max(values, default=1.0)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for leading in ((1, 2, 5), range(1, 10)):
        found = [tick for power in powers for first in leading if low <= (tick := float(f"{first}e{power}")) <= high]
        if len(found) >= 3:
            break
    return found
