"""How well the scores of a process reward model (PRM) separate right steps from wrong ones.

scikit-learn computes F1 and ROC AUC. It has no first-error F1, expected calibration error, PRMScore or best-of-N.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from atomthink_plugin.api import Aggregate
from atomthink_plugin.searches.parts.aggregates import AGGREGATES
from atomthink_plugin.training.evaluate.bootstrap import Bootstrap, Draws, Floats, MetricValue, metric_value, ratio
from atomthink_plugin.training.evaluate.error_kinds import error_recall
from atomthink_plugin.training.evaluate.readers import PRMBENCH_ORIGINAL
from atomthink_plugin.training.evaluate.scores import ScoredChain

BINS: Final = 10

PRMBENCH_GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "simplicity": ("redundency", "circular"),
    "soundness": ("counterfactual", "step_contradiction", "domain_inconsistency", "confidence"),
    "sensitivity": ("missing_condition", "deception", "multi_solutions"),
}
"""PRMBench's classes in its own spelling."""

ALL_RIGHT_CLASS: Final = "multi_solutions"
"""The PRMBench class without a wrong step; its PRMScore is the F1 of right steps."""

Values = Mapping[str, MetricValue]


@dataclass(frozen=True, slots=True)
class FirstErrorMetrics:
    """Whether the PRM finds the first wrong step, as ProcessBench measures it (arXiv 2412.06559).

    Attributes:
        all: Over all chains, and `subsets` by subset, see `_first_error_f1`.
        mean: F1 averaged over the subsets that have one: ProcessBench's headline. It counts subsets.
        position: How far off the first step below the threshold is, see `_position`.
        unknown: How many chains are left out because a step before the first wrong one has no label.
    """

    all: Values
    mean: MetricValue
    subsets: Mapping[str, Values]
    position: Values
    unknown: int


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """How the PRM classifies single steps, as VisualProcessBench measures it (arXiv 2503.10291).

    `macro_f1`, `f1_right`, `f1_wrong` and `accuracy` over all labelled steps and by subset; counts are steps.
    """

    all: Values
    subsets: Mapping[str, Values]


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """The steps with a score from `low` to `high`: their mean score, and the share of them that is right."""

    low: float
    high: float
    score: float | None
    right: MetricValue


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far scores are from probabilities; counts are steps.

    Expected calibration error over bins of equal width, Brier score, and the reliability table.
    """

    error: MetricValue
    brier: MetricValue
    bins: tuple[CalibrationBin, ...]


@dataclass(frozen=True, slots=True)
class BestOfN:
    """Accuracy when the PRM selects one chain of each question; counts are questions.

    Attributes:
        chains: Mean number of chains per question.
        mean: Accuracy of a random chain; `oracle` is that of the best one.
        picked: Accuracy of the chain with the highest aggregate of its scores; tied chains share the pick.
        gain: `picked` minus `mean`.
    """

    chains: float
    mean: MetricValue
    oracle: MetricValue
    picked: Mapping[Aggregate, MetricValue]
    gain: Mapping[Aggregate, MetricValue]


@dataclass(frozen=True, slots=True)
class PrmScore:
    """PRMBench's metrics (arXiv 2501.03124).

    Attributes:
        all: Over all modified solutions: `score` (PRMScore), step `accuracy`, step accuracy on the `original`
            solutions of the same problems, and `first_error`: how often the first wrong step is below the threshold.
            Counts are steps, those of `first_error` solutions.
        groups: Mean PRMScore of a group's classes; counts are classes.
        classes: As `all`, by class.
    """

    all: Values
    groups: Values
    classes: Mapping[str, Values]


@dataclass(frozen=True, slots=True)
class Metrics:
    """All metrics of a PRM on a labelled set.

    Attributes:
        ranking: ROC AUC: how often a right step scores higher than a wrong one. `pooled` is over all steps, `within`
            the mean over the questions with both kinds of steps: a search compares only steps of one question.
        best_of_n: None if no question has several chains with a known verdict.
        prm_score: PRMBench's metrics; None for other sets.
        error_recall: Share of wrong steps that are found, by kind of error; empty if the set names no kinds.
    """

    first_error: FirstErrorMetrics
    steps: StepMetrics
    ranking: Values
    calibration: Calibration
    best_of_n: BestOfN | None
    prm_score: PrmScore | None
    error_recall: Values


def measure(chains: Sequence[ScoredChain], threshold: float, prmbench: bool = False) -> Metrics:
    """Returns all metrics of at least one chain. A step below the threshold is predicted to be wrong."""
    bootstrap = Bootstrap([chain.item.question for chain in chains])
    # Scores and labels were checked when they were read. scikit-learn would check them again in every resample.
    with config_context(assume_finite=True, skip_parameter_validation=True):
        return Metrics(
            first_error=first_error(chains, threshold, bootstrap),
            steps=step_metrics(chains, threshold, bootstrap),
            ranking=ranking(chains, bootstrap),
            calibration=calibration(chains, bootstrap),
            best_of_n=best_of_n(chains, bootstrap),
            prm_score=prm_score(chains, threshold, bootstrap) if prmbench else None,
            error_recall=error_recall(chains, threshold, bootstrap),
        )


# --- first error ---------------------------------------------------------------------------------


def first_error(chains: Sequence[ScoredChain], threshold: float, bootstrap: Bootstrap) -> FirstErrorMetrics:
    """Returns ProcessBench's metrics. Chains whose first wrong step is not known are left out."""
    rows = np.array([_first_error_found(chain, threshold) for chain in chains], dtype=np.float64)
    sums = {name: bootstrap.sums(rows * group[:, None]) for name, group in _subsets(chains).items()}
    f1 = [draws for draws in map(_harmonic_mean, sums.values()) if not np.isnan(draws[0])]
    return FirstErrorMetrics(
        all=_first_error_f1(bootstrap.sums(rows)),
        mean=metric_value(np.mean(f1, axis=0) if f1 else np.full(1, np.nan), len(f1)),
        subsets={name: _first_error_f1(found) for name, found in sums.items()},
        position=_position(chains, threshold, bootstrap),
        unknown=sum(not chain.item.first_error_known for chain in chains),
    )


def _first_error_found(chain: ScoredChain, threshold: float) -> list[int]:
    """Returns 1 or 0 for: has a wrong step, the first one is found; has no wrong step, none is predicted."""
    if not chain.item.first_error_known:
        return [0, 0, 0, 0]
    error = chain.item.first_error
    hit = int(chain.first_below(threshold) == error)
    return [0, 0, 1, hit] if error is None else [1, hit, 0, 0]


def _harmonic_mean(sums: Floats) -> Draws:
    """Returns F1: 0 where both accuracies are 0, NaN where one kind of chain is missing."""
    wrong, right = ratio(sums[:, 1], sums[:, 0]), ratio(sums[:, 3], sums[:, 2])
    return np.where(wrong + right == 0, 0.0, ratio(2 * wrong * right, wrong + right))


def _first_error_f1(sums: Floats) -> Values:
    """Returns the accuracy on chains with a wrong step and without one, and their harmonic mean; counts are chains."""
    return {
        "f1": metric_value(_harmonic_mean(sums), int(sums[0, 0] + sums[0, 2])),
        "wrong": metric_value(ratio(sums[:, 1], sums[:, 0]), int(sums[0, 0])),
        "right": metric_value(ratio(sums[:, 3], sums[:, 2]), int(sums[0, 2])),
    }


def _position(chains: Sequence[ScoredChain], threshold: float, bootstrap: Bootstrap) -> Values:
    """Returns where the first step below the threshold is, for chains with a wrong step.

    It is the first wrong step (`exact`), an earlier or later one (`early`, `late`) or there is none (`missed`). For
    the first three, `distance` is their mean distance in steps and `offset` the mean signed one, negative if early.
    """
    rows = np.zeros((len(chains), 6))
    for row, chain in zip(rows, chains, strict=True):
        error, below = chain.item.first_error, chain.first_below(threshold)
        if error is not None and chain.item.first_error_known:
            off = 0 if below is None else below - error
            row[:] = below == error, off < 0, off > 0, below is None, abs(off), off
    sums = bootstrap.sums(rows)
    wrong, found = sums[:, :4].sum(axis=1), sums[:, :3].sum(axis=1)
    bottoms = {"exact": wrong, "early": wrong, "late": wrong, "missed": wrong, "distance": found, "offset": found}
    return {
        name: metric_value(ratio(sums[:, column], bottom), int(bottom[0]))
        for column, (name, bottom) in enumerate(bottoms.items())
    }


# --- single steps --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _StepDraws:
    """F1 (0 where undefined) and number of right and of wrong steps, and the accuracy of all."""

    f1: Mapping[bool, Draws]
    steps: Mapping[bool, Draws]
    accuracy: Draws

    @property
    def count(self) -> int:
        return int(self.steps[True][0] + self.steps[False][0])


def step_metrics(chains: Sequence[ScoredChain], threshold: float, bootstrap: Bootstrap) -> StepMetrics:
    """Returns the metrics of single steps."""
    groups = _subsets(chains)
    everything = np.ones(len(chains), dtype=bool)
    whole, *parts = map(_step_f1, _step_draws(chains, threshold, [everything, *groups.values()], bootstrap))
    return StepMetrics(whole, dict(zip(groups, parts, strict=True)))


def _step_f1(draws: _StepDraws) -> Values:
    right, wrong = (np.where(draws.steps[label] == 0, np.nan, draws.f1[label]) for label in (True, False))
    found = {"macro_f1": (right + wrong) / 2, "f1_right": right, "f1_wrong": wrong, "accuracy": draws.accuracy}
    return {name: metric_value(values, draws.count) for name, values in found.items()}


def _step_draws(
    chains: Sequence[ScoredChain], threshold: float, groups: Sequence[NDArray[np.bool_]], bootstrap: Bootstrap
) -> list[_StepDraws]:
    """Returns the metrics of the steps of each group of chains.

    scikit-learn is called once per resample, for all groups. Its samples are the cells of the groups' confusion
    tables, weighted by their steps. Its classes are the wrong and the right steps of each group.
    """
    table = np.zeros((len(chains), 4))  # right steps predicted right and wrong, wrong ones predicted wrong and right
    for row, chain in zip(table, chains, strict=True):
        for score, label in chain.labelled_steps():
            row[(0 if label else 2) + ((score >= threshold) != label)] += 1
    sums = bootstrap.sums(np.concatenate([table * group[:, None] for group in groups], axis=1))
    classes = np.arange(2 * len(groups)).reshape(-1, 2)  # wrong, right
    # A resample without a labelled step would have no weight, which scikit-learn refuses: one more cell, of no class.
    labels, predicted = (np.append(classes[:, order].ravel(), -1) for order in ([1, 1, 0, 0], [1, 0, 0, 1]))
    options = {"labels": classes.ravel(), "average": None, "zero_division": 0}
    weights = np.pad(sums, ((0, 0), (0, 1)), constant_values=1)
    found = [precision_recall_fscore_support(labels, predicted, sample_weight=one, **options)[2:] for one in weights]
    f1, steps = np.moveaxis(np.array(found), 0, -1).reshape(2, len(groups), 2, -1)
    right = sums.reshape(-1, len(groups), 4)[:, :, [0, 2]].sum(axis=2).T
    return [
        _StepDraws(
            f1={False: f1[group, 0], True: f1[group, 1]},
            steps={False: steps[group, 0], True: steps[group, 1]},
            accuracy=ratio(right[group], steps[group].sum(axis=0)),
        )
        for group in range(len(groups))
    ]


# --- ranking and calibration ---------------------------------------------------------------------


def ranking(chains: Sequence[ScoredChain], bootstrap: Bootstrap) -> Values:
    """Returns the areas under the ROC curve: `pooled` counts steps, `within` questions."""
    steps = [chain.labelled_steps() for chain in chains]
    owners = np.repeat(np.arange(len(chains)), [len(own) for own in steps])
    scores, labels = _columns(steps)
    pooled = np.array([_roc_auc(scores, labels, weights[owners]) for weights in bootstrap.weights()])
    rows = np.zeros((len(chains), 2))
    for indices in _by_question(chains):
        area = _roc_auc(*_columns([steps[index] for index in indices]))
        if not np.isnan(area):
            rows[indices[0]] = area, 1.0  # a question's chains are drawn together: the first stands for all
    sums = bootstrap.sums(rows)
    within = metric_value(ratio(sums[:, 0], sums[:, 1]), int(sums[0, 1]))
    return {"pooled": metric_value(pooled, len(labels)), "within": within}


def _columns(steps: Sequence[Sequence[tuple[float, bool]]]) -> tuple[Floats, NDArray[np.bool_]]:
    """Returns the scores and the labels of all steps of some chains."""
    flat = [step for own in steps for step in own]
    return np.array([score for score, _ in flat]), np.array([label for _, label in flat], dtype=bool)


def _roc_auc(scores: Floats, labels: NDArray[np.bool_], weights: Floats | None = None) -> float:
    """Returns the area under the ROC curve, NaN if all labels with a weight are the same."""
    drawn = labels if weights is None else labels[weights > 0]
    same = drawn.all() or not drawn.any()
    return float("nan") if same else float(roc_auc_score(labels, scores, sample_weight=weights))


def calibration(chains: Sequence[ScoredChain], bootstrap: Bootstrap) -> Calibration:
    """Returns the calibration of the labelled steps."""
    table = np.zeros((len(chains), 3, BINS))  # steps, their scores, the right ones
    squares = np.zeros((len(chains), 2))
    for row, square, chain in zip(table, squares, chains, strict=True):
        for score, label in chain.labelled_steps():
            row[:, min(int(score * BINS), BINS - 1)] += 1, score, label
            square += (score - label) ** 2, 1
    squared, count = bootstrap.sums(squares).T
    sums = bootstrap.sums(table.reshape(len(chains), -1))
    steps, scores, right = np.moveaxis(sums.reshape(-1, 3, BINS), 1, 0)
    binned = table.sum(axis=0)
    bins = (
        CalibrationBin(
            low=index / BINS,
            high=(index + 1) / BINS,
            score=float(binned[1, index] / binned[0, index]) if binned[0, index] else None,
            right=metric_value(ratio(right[:, index], steps[:, index]), int(steps[0, index])),
        )
        for index in range(BINS)
    )
    return Calibration(
        error=metric_value(ratio(np.abs(scores - right).sum(axis=1), steps.sum(axis=1)), int(count[0])),
        brier=metric_value(ratio(squared, count), int(count[0])),
        bins=tuple(bins),
    )


# --- whole chains --------------------------------------------------------------------------------


def best_of_n(chains: Sequence[ScoredChain], bootstrap: Bootstrap) -> BestOfN | None:
    """Returns the accuracy of selection by the PRM, None if no question has several chains with a known verdict."""
    known = ([index for index in indices if chains[index].item.right is not None] for indices in _by_question(chains))
    groups = [indices for indices in known if len(indices) > 1]
    if not groups:
        return None
    rows = np.zeros((len(chains), 3 + 2 * len(AGGREGATES)))  # questions, random, oracle; picked, gain by aggregate
    for indices in groups:
        group = [chains[index] for index in indices]
        right = np.array([chain.item.right for chain in group], dtype=float)
        picked = np.array([_picked(group, right, aggregate) for aggregate in AGGREGATES])
        rows[indices[0]] = 1.0, right.mean(), right.max(), *picked, *(picked - right.mean())
    questions, *columns = bootstrap.sums(rows).T
    mean, oracle, *rest = (metric_value(ratio(column, questions), len(groups)) for column in columns)
    return BestOfN(
        chains=sum(map(len, groups)) / len(groups),
        mean=mean,
        oracle=oracle,
        picked=dict(zip(AGGREGATES, rest, strict=False)),
        gain=dict(zip(AGGREGATES, rest[len(AGGREGATES) :], strict=True)),
    )


def _picked(group: Sequence[ScoredChain], right: Floats, aggregate: Aggregate) -> float:
    values = np.array([AGGREGATES[aggregate](chain.scores) for chain in group])
    return float(right[values == values.max()].mean())


# --- PRMBench ------------------------------------------------------------------------------------


def prm_score(chains: Sequence[ScoredChain], threshold: float, bootstrap: Bootstrap) -> PrmScore:
    """Returns PRMBench's metrics.

    PRMScore is the mean of the F1 of right and of wrong steps, as in github.com/ssmisya/PRMBench: the counts of
    `eval_on_hallucination_step` (mr_eval/tasks/prmtest_classified/task.py), and
    `get_prmscore_from_current_res_dict` (mr_visualize, form_latex_strs.ipynb).
    """
    kinds = _subsets(chains)
    original = kinds.pop(PRMBENCH_ORIGINAL, np.zeros(len(chains), dtype=bool))
    modified = {"": ~original, **kinds}
    problems = np.array([chain.item.question for chain in chains])
    originals = [original & np.isin(problems, problems[group]) for group in modified.values()]
    draws = _step_draws(chains, threshold, [*modified.values(), *originals], bootstrap)
    wrong_at = [(chain.scores, chain.item.first_error) for chain in chains]  # has a wrong step; it is below
    rows = np.array([(at is not None, at is not None and scores[at] < threshold) for scores, at in wrong_at], float)
    scores: dict[str, Draws] = {}
    found: dict[str, Values] = {}
    for (name, group), own, theirs in zip(modified.items(), draws, draws[len(modified) :], strict=False):
        f1 = own.f1[True] if name == ALL_RIGHT_CLASS else (own.f1[True] + own.f1[False]) / 2
        scores[name] = np.where(own.steps[True] + own.steps[False] == 0, np.nan, f1)
        errors, below = bootstrap.sums(rows * group[:, None]).T
        found[name] = {
            "score": metric_value(scores[name], own.count),
            "accuracy": metric_value(own.accuracy, own.count),
            "original": metric_value(theirs.accuracy, theirs.count),
            "first_error": metric_value(ratio(below, errors), int(errors[0])),
        }
    groups = {name: [scores[kind] for kind in members if kind in scores] for name, members in PRMBENCH_GROUPS.items()}
    means = {name: metric_value(np.mean(one, axis=0), len(one)) for name, one in groups.items() if one}
    return PrmScore(all=found.pop(""), groups=means, classes=found)


# --- groups of chains ----------------------------------------------------------------------------


def _by_question(chains: Sequence[ScoredChain]) -> list[list[int]]:
    """Returns the indices of each question's chains."""
    indices: dict[str, list[int]] = {}
    for index, chain in enumerate(chains):
        indices.setdefault(chain.item.question, []).append(index)
    return list(indices.values())


def _subsets(chains: Sequence[ScoredChain]) -> dict[str, NDArray[np.bool_]]:
    """Returns which chains are in each subset."""
    subset_of = np.array([chain.item.subset for chain in chains])
    return {str(name): subset_of == name for name in np.unique(subset_of)}
