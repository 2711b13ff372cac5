"""PRMBench's metrics (arXiv 2501.03124)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from atomthink_plugin.step_metrics.bootstrap import Bootstrap, Draws, MetricValue, Values, metric_value, ratio
from atomthink_plugin.step_metrics.groups import by_subset
from atomthink_plugin.step_metrics.judged_steps import JudgedSteps
from atomthink_plugin.step_metrics.step_f1 import StepDraws, step_draws

ORIGINAL: Final = "correct"
"""PRMBench's own name for the class of unmodified solutions."""

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "simplicity": ("redundency", "circular"),
    "soundness": ("counterfactual", "step_contradiction", "domain_inconsistency", "confidence"),
    "sensitivity": ("missing_condition", "deception", "multi_solutions"),
}
"""PRMBench's classes in its own spelling."""

ALL_RIGHT_CLASS: Final = "multi_solutions"
"""The class without a wrong step; its PRMScore is the F1 of right steps."""


@dataclass(frozen=True, slots=True)
class PrmScore:
    """PRMBench's metrics.

    Attributes:
        all: Over all modified solutions: `score` (PRMScore), step `accuracy`, step accuracy on the `original`
            solutions of the same problems, and `first_error`: how often the first wrong step is judged wrong.
            Counts are steps, those of `first_error` solutions.
        of_valid: PRMScore of the modified solutions with a usable reply, as the benchmark itself reports it. It is that
            of `all` if all replies are usable.
        groups: Mean PRMScore of a group's classes; counts are classes.
        classes: As `all`, by class.
    """

    all: Values
    of_valid: MetricValue
    groups: Values
    classes: Mapping[str, Values]


def prm_score(solutions: Sequence[JudgedSteps], bootstrap: Bootstrap) -> PrmScore:
    """Returns PRMBench's metrics.

    PRMScore is the mean of the F1 of right and of wrong steps, as in github.com/ssmisya/PRMBench: the counts of
    `eval_on_hallucination_step` (mr_eval/tasks/prmtest_classified/task.py), and
    `get_prmscore_from_current_res_dict` (mr_visualize, form_latex_strs.ipynb).
    """
    kinds = by_subset(solutions)
    original = kinds.pop(ORIGINAL, np.zeros(len(solutions), dtype=bool))
    modified = {"": ~original, **kinds}
    valid = np.array([solution.valid for solution in solutions], dtype=bool)
    problems = np.array([solution.truth.question for solution in solutions])
    originals = [original & np.isin(problems, problems[group]) for group in modified.values()]
    usable, *draws = step_draws(solutions, [~original & valid, *modified.values(), *originals], bootstrap)
    rows = np.array([_first_error_judged_wrong(solution) for solution in solutions], dtype=np.float64)
    scores: dict[str, Draws] = {}
    found: dict[str, Values] = {}
    for (name, group), own, theirs in zip(modified.items(), draws, draws[len(modified) :], strict=False):
        scores[name] = _score(own, name == ALL_RIGHT_CLASS)
        errors, judged_wrong = bootstrap.sums(rows * group[:, None]).T
        found[name] = {
            "score": metric_value(scores[name], own.count),
            "accuracy": metric_value(own.accuracy, own.count),
            "original": metric_value(theirs.accuracy, theirs.count),
            "first_error": metric_value(ratio(judged_wrong, errors), int(errors[0])),
        }
    groups = {name: [scores[kind] for kind in members if kind in scores] for name, members in GROUPS.items()}
    return PrmScore(
        all=found.pop(""),
        of_valid=metric_value(_score(usable), usable.count),
        groups={name: metric_value(np.mean(one, axis=0), len(one)) for name, one in groups.items() if one},
        classes=found,
    )


def _score(draws: StepDraws, all_right: bool = False) -> Draws:
    f1 = draws.f1[True] if all_right else (draws.f1[True] + draws.f1[False]) / 2
    return np.where(draws.total == 0, np.nan, f1)


def _first_error_judged_wrong(solution: JudgedSteps) -> tuple[bool, bool]:
    """Returns whether the solution has a wrong step, and whether the first one is judged wrong."""
    at = solution.truth.first_error
    return at is not None, at is not None and solution.verdicts[at] is False
