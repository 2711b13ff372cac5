"""All measures of a scored set: as numbers, as JSON, as printed tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from atomthink_plugin.tables import Grid
from atomthink_plugin.training.evaluate.measures.best_of_n import BestOfN, best_of_n
from atomthink_plugin.training.evaluate.measures.calibration import Calibration, calibration
from atomthink_plugin.training.evaluate.measures.first_error import FirstError, first_error
from atomthink_plugin.training.evaluate.measures.prmscore import PrmScore, prm_score
from atomthink_plugin.training.evaluate.measures.ranking import Ranking, ranking
from atomthink_plugin.training.evaluate.measures.resampling import Bootstrap, Estimate
from atomthink_plugin.training.evaluate.measures.steps import Steps, steps
from atomthink_plugin.training.evaluate.scored import Scored


@dataclass(frozen=True, slots=True)
class Measures:
    """What is said about a PRM on a set.

    Attributes:
        first_error: Whether it finds the first wrong step.
        steps: Whether it judges single steps rightly.
        ranking: Whether right steps score higher.
        calibration: Whether its scores are probabilities.
        best_of_n: Whether it picks right chains; None where no question has several with a verdict.
        prm_score: PRMBench's own measures; None for other sets.
    """

    first_error: FirstError
    steps: Steps
    ranking: Ranking
    calibration: Calibration
    best_of_n: BestOfN | None
    prm_score: PrmScore | None


def measure(chains: Sequence[Scored], threshold: float, prmbench: bool = False, seed: int = 0) -> Measures:
    """Returns all measures.

    Args:
        chains: At least one.
        threshold: A step scored below it counts as taken for wrong.
        prmbench: Whether they are PRMBench's.
        seed: Of the intervals.
    """
    bootstrap = Bootstrap([chain.item.question for chain in chains], seed)
    return Measures(
        first_error=first_error(chains, threshold, bootstrap),
        steps=steps(chains, threshold, bootstrap),
        ranking=ranking(chains, bootstrap),
        calibration=calibration(chains, bootstrap),
        best_of_n=best_of_n(chains, bootstrap),
        prm_score=prm_score(chains, threshold, bootstrap) if prmbench else None,
    )


def tables(measures: Measures, title: str) -> Iterator[Grid]:
    """Yields the tables as they are printed: what holds for the whole set, then by subset, then the calibration."""
    yield _whole(measures, title)
    if measures.prm_score is not None:
        yield _classes(measures.prm_score)
    elif len(measures.steps.subsets) > 1:
        yield _subsets(measures)
    yield _reliability(measures.calibration)


def _whole(measures: Measures, title: str) -> Grid:
    cells: list[tuple[str, ...]] = []
    sections = []
    for section in _sections(measures):
        sections.append(len(cells))
        for name, estimate, unit in section:
            plain = estimate if unit.endswith("steps off") else None
            shown = _plain(plain) if plain else (_percent(estimate.value), _range(estimate))
            cells.append((name, *shown, f"{estimate.count:,} {unit.removesuffix(' steps off')}"))
    return Grid(title, ("measure", "%", "95 % interval", "of"), cells, sections=frozenset(sections))


Row = tuple[str, Estimate, str]


def _sections(measures: Measures) -> Iterator[list[Row]]:
    """Yields the rows of the first table, each with what its count counts."""
    errors, position, single = measures.first_error, measures.first_error.position, measures.steps.all
    yield [
        *([("first-error F1, mean of subsets", errors.mean, "subsets")] if errors.mean.count > 1 else []),
        ("first-error F1", errors.all.f1, "chains"),
        ("  chains with an error", errors.all.wrong, "chains"),
        ("  chains without", errors.all.right, "chains"),
    ]
    yield [
        ("first error seen too early", position.early, "chains"),
        ("  too late", position.late, "chains"),
        ("  nowhere", position.missed, "chains"),
        ("  mean distance, in steps", position.distance, "chains steps off"),
    ]
    yield [
        ("macro-F1 over steps", single.macro_f1, "steps"),
        ("  right steps", single.f1_right, "steps"),
        ("  wrong steps", single.f1_wrong, "steps"),
        ("accuracy over steps", single.accuracy, "steps"),
    ]
    yield [
        ("AUC, pooled", measures.ranking.pooled, "steps"),
        ("AUC, mean within questions", measures.ranking.within, "questions"),
        ("expected calibration error", measures.calibration.error, "steps"),
        ("Brier score", measures.calibration.brier, "steps"),
    ]
    if measures.prm_score is not None:
        yield [
            ("PRMScore", measures.prm_score.all.score, "steps"),
            *((f"  {name}", estimate, "classes") for name, estimate in measures.prm_score.groups.items()),
        ]
    best = measures.best_of_n
    if best is not None:
        yield [
            (f"a chain picked blindly of {best.chains:.1f}", best.mean, "questions"),
            *((f"best of N by {name}: gain", estimate, "questions") for name, estimate in best.gain.items()),
            ("the best chain there is", best.oracle, "questions"),
        ]


def _subsets(measures: Measures) -> Grid:
    headings = ("subset", "first-error F1", "with an error", "without", "macro-F1", "chains", "steps")
    cells = []
    for name, single in measures.steps.subsets.items():
        errors = measures.first_error.subsets[name]
        shown = (_shown(errors.f1), _shown(errors.wrong), _shown(errors.right), _shown(single.macro_f1))
        cells.append((name, *shown, f"{errors.f1.count:,}", f"{single.accuracy.count:,}"))
    return Grid("By subset", headings, cells)


def _classes(scored: PrmScore) -> Grid:
    headings = ("class", "PRMScore", "accuracy, changed", "accuracy, original", "first error seen", "steps")
    cells = []
    for name, one in (*scored.classes.items(), ("all", scored.all)):
        shown = (_shown(one.score), _shown(one.accuracy), _shown(one.original), _shown(one.first_error))
        cells.append((name, *shown, f"{one.accuracy.count:,}"))
    return Grid("PRMBench, by class of changes", headings, cells, sections=frozenset({len(scored.classes)}))


def _reliability(found: Calibration) -> Grid:
    cells = [
        (f"{row.low:.1f} to {row.high:.1f}", _percent(row.score), _shown(row.right), f"{row.right.count:,}")
        for row in found.bins
    ]
    return Grid("Reliability", ("score", "mean score, %", "right, %", "steps"), cells)


def _shown(estimate: Estimate) -> str:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return _percent(estimate.value)
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.0f}, {100 * estimate.high:.0f}]"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _range(estimate: Estimate) -> str:
    return "" if estimate.low is None else f"{_percent(estimate.low)} to {_percent(estimate.high)}"


def _plain(estimate: Estimate) -> tuple[str, str]:
    """Cells of a number that is no share."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return "" if estimate.value is None else f"{estimate.value:.2f}", ""
    return f"{estimate.value:.2f}", f"{estimate.low:.2f} to {estimate.high:.2f}"
