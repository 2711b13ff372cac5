"""The metrics of a critic as printed tables."""

from __future__ import annotations

from collections.abc import Iterator

from atomthink_plugin.step_metrics.bootstrap import MetricValue
from atomthink_plugin.step_metrics.measure import Metrics
from atomthink_plugin.step_metrics.prm_score import PrmScore
from atomthink_plugin.step_metrics.ranking import Calibration
from atomthink_plugin.tables import Grid

_Line = tuple[str, MetricValue, str]
"""Name of a metric, the metric, and what its count counts."""


def tables(metrics: Metrics, title: str) -> Iterator[Grid]:
    """Yields the tables: all metrics of the whole set, metrics by subset, and the reliability table."""
    cells: list[tuple[str, ...]] = []
    sections = []
    for section in _sections(metrics):
        sections.append(len(cells))
        cells += [(name, *_value_and_interval(name, found), f"{found.count:,} {unit}") for name, found, unit in section]
    yield Grid(title, ("measure", "%", "95 % interval", "of"), cells, sections=frozenset(sections))
    if metrics.prm_score is not None:
        yield _classes(metrics.prm_score)
    elif len(metrics.steps.subsets) > 1:
        yield _subsets(metrics)
    if metrics.oracle:
        yield _oracle(metrics)
    if metrics.calibration is not None:
        yield _reliability(metrics.calibration)


def _sections(metrics: Metrics) -> Iterator[list[_Line]]:
    errors, position, steps = metrics.first_error, metrics.first_error.position, metrics.steps.all
    yield [
        *([("first-error F1, mean of subsets", errors.mean, "subsets")] if errors.mean.count > 1 else []),
        ("first-error F1", errors.all["f1"], "chains"),
        ("  chains with an error", errors.all["wrong"], "chains"),
        ("  chains without", errors.all["right"], "chains"),
    ]
    yield [
        ("first error predicted too early", position["early"], "chains"),
        ("  too late", position["late"], "chains"),
        ("  nowhere", position["missed"], "chains"),
        (_DISTANCE, position["distance"], "chains"),
    ]
    several = len(metrics.steps.subsets) > 1
    yield [
        ("macro-F1 over steps", steps["macro_f1"], "steps"),
        *([("  mean of subsets, weighted by steps", metrics.steps.weighted, "subsets")] if several else []),
        *([("  mean of subsets", metrics.steps.mean, "subsets")] if several else []),
        ("  right steps", steps["f1_right"], "steps"),
        ("  wrong steps", steps["f1_wrong"], "steps"),
        ("accuracy over steps", steps["accuracy"], "steps"),
    ]
    if metrics.error_recall:
        yield [(_RECALL_NAMES.get(kind, f"  {kind}"), found, "steps") for kind, found in metrics.error_recall.items()]
    if metrics.ranking is not None and metrics.calibration is not None:
        yield [
            ("AUC, pooled", metrics.ranking["pooled"], "steps"),
            ("AUC, mean within questions", metrics.ranking["within"], "questions"),
            ("expected calibration error", metrics.calibration.error, "steps"),
            ("Brier score", metrics.calibration.brier, "steps"),
        ]
    if metrics.prm_score is not None:
        yield [
            ("PRMScore", metrics.prm_score.all["score"], "steps"),
            *((f"  {name}", found, "classes") for name, found in metrics.prm_score.groups.items()),
        ]
    best = metrics.best_of_n
    if best is not None:
        yield [
            (f"random chain of {best.chains:.1f}", best.mean, "questions"),
            *((f"best of N by {name}: gain", found, "questions") for name, found in best.gain.items()),
            ("best chain of N", best.oracle, "questions"),
        ]


def _subsets(metrics: Metrics) -> Grid:
    headings = ("subset", "first-error F1", "with an error", "without", "macro-F1", "chains", "steps")
    cells = []
    for name, steps in metrics.steps.subsets.items():
        errors = metrics.first_error.subsets[name]
        shown = map(_with_interval, (errors["f1"], errors["wrong"], errors["right"], steps["macro_f1"]))
        cells.append((name, *shown, f"{errors['f1'].count:,}", f"{steps['accuracy'].count:,}"))
    return Grid("By subset", headings, cells)


def _classes(found: PrmScore) -> Grid:
    headings = ("class", "PRMScore", "accuracy, modified", "accuracy, original", "first error found", "steps")
    cells = [
        (name, *map(_with_interval, values.values()), f"{values['accuracy'].count:,}")
        for name, values in (*found.classes.items(), ("all", found.all))
    ]
    return Grid("PRMBench, by class of modifications", headings, cells, sections=frozenset({len(found.classes)}))


def _oracle(metrics: Metrics) -> Grid:
    headings = ("best threshold on this very set (oracle, not a result)", "threshold", "F1, %")
    cells = [(goal, f"{best.threshold:.4g}", _percent(best.f1)) for goal, best in metrics.oracle.items()]
    return Grid("Oracle", headings, cells)


def _reliability(found: Calibration) -> Grid:
    cells = [
        (f"{row.low:.1f} to {row.high:.1f}", _percent(row.score), _with_interval(row.right), f"{row.right.count:,}")
        for row in found.bins
    ]
    return Grid("Reliability", ("score", "mean score, %", "right, %", "steps"), cells)


_DISTANCE = "  mean distance, in steps"
_RECALL_NAMES = {"all": "recall of wrong steps with a known kind"}


def _value_and_interval(name: str, found: MetricValue) -> tuple[str, str]:
    """Returns two cells, in percent unless the metric is a number of steps."""
    shown = (lambda value: f"{value:.2f}") if name == _DISTANCE else _percent
    if found.value is None:
        return "", ""
    return shown(found.value), "" if found.low is None else f"{shown(found.low)} to {shown(found.high)}"


def _with_interval(found: MetricValue) -> str:
    if found.value is None or found.low is None or found.high is None:
        return _percent(found.value)
    return f"{100 * found.value:.1f} [{100 * found.low:.0f}, {100 * found.high:.0f}]"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"
