"""PRMBench's PRMScore (arXiv 2501.03124): 0.5 F1 of right steps + 0.5 F1 of wrong steps, over the changed solutions.

As github.com/ssmisya/PRMBench computes it: counts in `eval_on_hallucination_step` (mr_eval/tasks/prmtest_classified/
task.py), the score in `get_prmscore_from_current_res_dict` (mr_visualize/.../draw_tabs/form_latex_strs.ipynb).
Steps of all changed solutions are pooled, right solutions left out; a class that has no wrong step (multi_solutions)
counts F1 of right steps alone; the three groups are means over their classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from atomthink_plugin.training.evaluate.measures.resampling import Bootstrap, Estimate, Floats, Statistic, share
from atomthink_plugin.training.evaluate.measures.steps import accuracy, confusion
from atomthink_plugin.training.evaluate.readers.prmbench import ORIGINAL
from atomthink_plugin.training.evaluate.scored import Scored

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "simplicity": ("redundency", "circular"),
    "soundness": ("counterfactual", "step_contradiction", "domain_inconsistency", "confidence"),
    "sensitivity": ("missing_condition", "deception", "multi_solutions"),
}
"""The benchmark's classes, in its own spelling."""

ALL_RIGHT: Final = "multi_solutions"


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class of changes; counts are steps, of `first_error` chains.

    Attributes:
        score: PRMScore.
        accuracy: Share of the changed solutions' steps judged rightly.
        original: The same of the right solutions of the same problems.
        first_error: Share of changed solutions whose first wrong step is scored as wrong.
    """

    score: Estimate
    accuracy: Estimate
    original: Estimate
    first_error: Estimate


@dataclass(frozen=True, slots=True)
class PrmScore:
    """PRMBench's measures.

    Attributes:
        all: Over all changed solutions.
        groups: Mean score over a group's classes; counts are classes.
        classes: By class.
    """

    all: ClassScore
    groups: Mapping[str, Estimate]
    classes: Mapping[str, ClassScore]


def prm_score(chains: Sequence[Scored], threshold: float, bootstrap: Bootstrap) -> PrmScore:
    """Returns the measures over PRMBench's chains; the bootstrap is of the same chains."""
    table = confusion(chains, threshold)
    flagged = np.array([_first_error_flagged(chain, threshold) for chain in chains], dtype=float)
    kinds = np.array([chain.item.subset for chain in chains])
    problems = [chain.item.question for chain in chains]

    def scored(changed: np.ndarray, statistic: str) -> ClassScore:
        among = {problem for problem, one in zip(problems, changed, strict=True) if one}
        originals = (kinds == ORIGINAL) & np.array([problem in among for problem in problems])
        ours, theirs, firsts = (table * changed[:, None], table * originals[:, None], flagged * changed[:, None])
        count = int(ours.sum())
        return ClassScore(
            score=bootstrap.estimate(ours, _right_alone if statistic == ALL_RIGHT else _score, count),
            accuracy=bootstrap.estimate(ours, accuracy, count),
            original=bootstrap.estimate(theirs, accuracy, int(theirs.sum())),
            first_error=bootstrap.estimate(
                firsts, lambda sums: share(sums[..., 1], sums[..., 0]), int(firsts[:, 0].sum())
            ),
        )

    classes = {str(kind): scored(kinds == kind, str(kind)) for kind in sorted(set(kinds) - {ORIGINAL})}
    groups = {}
    for group, members in GROUPS.items():
        present = [kind for kind in members if kind in classes]
        if present:
            columns = np.concatenate([table * (kinds == kind)[:, None] for kind in present], axis=1)
            groups[group] = bootstrap.estimate(columns, _mean_of(present), len(present))
    return PrmScore(all=scored(kinds != ORIGINAL, ""), groups=groups, classes=classes)


def _score(sums: Floats) -> Floats:
    """The two F1, 0 where a class is neither there nor seen, NaN where there are no steps."""
    return np.where(sums.sum(axis=-1) == 0, np.nan, (_f1(sums, 0) + _f1(sums, 2)) / 2)


def _right_alone(sums: Floats) -> Floats:
    return np.where(sums.sum(axis=-1) == 0, np.nan, _f1(sums, 0))


def _f1(sums: Floats, column: int) -> Floats:
    mistakes = sums[..., 1] + sums[..., 3]
    return np.nan_to_num(share(2 * sums[..., column], 2 * sums[..., column] + mistakes))


def _mean_of(kinds: Sequence[str]) -> Statistic:
    def mean(sums: Floats) -> Floats:
        tables = np.moveaxis(sums.reshape(*sums.shape[:-1], len(kinds), 4), -2, 0)
        scores = [(_right_alone if kind == ALL_RIGHT else _score)(one) for kind, one in zip(kinds, tables, strict=True)]
        return np.asarray(np.mean(scores, axis=0))

    return mean


def _first_error_flagged(chain: Scored, threshold: float) -> tuple[bool, bool]:
    """Whether a chain has a wrong step, and whether its first one is scored below the threshold."""
    error = chain.item.first_error
    return error is not None, error is not None and chain.scores[error] < threshold
