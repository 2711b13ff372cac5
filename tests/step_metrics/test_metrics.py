"""Metrics on ten chains counted by hand, against naive twins, and properties that hold for all chains."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atomthink_plugin.step_metrics import bootstrap as bootstraps
from atomthink_plugin.step_metrics.best_threshold import Goal, best_threshold
from atomthink_plugin.step_metrics.bootstrap import Bootstrap, MetricValue, Values
from atomthink_plugin.step_metrics.judged_steps import JudgedSteps
from atomthink_plugin.step_metrics.measure import Metrics, measure
from atomthink_plugin.step_metrics.prm_score import GROUPS, prm_score
from atomthink_plugin.step_metrics.ranking import Calibration, ranking
from atomthink_plugin.step_metrics.step_f1 import step_metrics
from atomthink_plugin.training.evaluate.report import tables
from tests.step_metrics.ten_solutions import TEN, Label, N, R, W, at, judged, scored

LABELS = st.sampled_from([True, False, None])
SCORES = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.25, 0.5, 1.0]))


@st.composite
def many(draw: st.DrawFn, labels: st.SearchStrategy[Label] = LABELS) -> list[JudgedSteps]:
    chains = []
    for _ in range(draw(st.integers(1, 8))):
        marked = draw(st.lists(labels, min_size=1, max_size=5))
        scores = draw(st.lists(SCORES, min_size=len(marked), max_size=len(marked)))
        place = draw(st.sampled_from(["q1", "q2", "q3"])), draw(st.sampled_from(["a", "b"]))
        chains.append(scored(marked, scores, *place, draw(st.sampled_from([True, False, None]))))
    return chains


@pytest.fixture(autouse=True, scope="module")
def few_resamples() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstraps, "RESAMPLES", 4)
        yield


@pytest.fixture(scope="module")
def ten() -> Metrics:
    return measure(TEN)


def ranks(found: Metrics) -> Values:
    assert found.ranking is not None
    return found.ranking


def calibrated(found: Metrics) -> Calibration:
    assert found.calibration is not None
    return found.calibration


def check(metric: MetricValue, value: float, count: int) -> None:
    assert (metric.value, metric.count) == (pytest.approx(value), count)
    assert metric.low is not None
    assert metric.high is not None
    assert metric.low <= value + 1e-9
    assert value - 1e-9 <= metric.high


# --- ten chains ----------------------------------------------------------------------------------


def test_first_error_f1(ten: Metrics) -> None:
    found = ten.first_error
    # All: 2, 6 of 2, 3, 4, 6, 9 are seen; nothing is seen in 1, 7, 10 of 1, 5, 7, 10.
    check(found.all["wrong"], 2 / 5, 5)
    check(found.all["right"], 3 / 4, 4)
    check(found.all["f1"], 2 * 0.4 * 0.75 / 1.15, 9)
    # a: 2 of 2, 3, 4 and 1 of 1, 5. b: 6 of 6, 9 and both of 7, 10.
    check(found.subsets["a"]["wrong"], 1 / 3, 3)
    check(found.subsets["a"]["right"], 1 / 2, 2)
    check(found.subsets["a"]["f1"], 0.4, 5)
    check(found.subsets["b"]["f1"], 2 / 3, 4)
    check(found.mean, (0.4 + 2 / 3) / 2, 2)
    assert found.unknown == 1


def test_position_of_the_error_seen(ten: Metrics) -> None:
    found = ten.first_error.position
    for name, share in {"exact": 2 / 5, "early": 1 / 5, "late": 1 / 5, "missed": 1 / 5}.items():
        check(found[name], share, 5)
    check(found["distance"], (0 + 1 + 2 + 0) / 4, 4)
    check(found["offset"], (0 + 1 - 2 + 0) / 4, 4)


def test_macro_f1_over_steps(ten: Metrics) -> None:
    # 17 right steps, 2 of them (in 4 and 5) taken for wrong; 6 wrong ones, 3 of them (in 3, 6, 9) taken for right.
    found = ten.steps.all
    check(found["f1_right"], 2 * 15 / (2 * 15 + 2 + 3), 23)
    check(found["f1_wrong"], 2 * 3 / (2 * 3 + 2 + 3), 23)
    check(found["macro_f1"], (6 / 7 + 6 / 11) / 2, 23)
    check(found["accuracy"], 18 / 23, 23)
    check(ten.steps.subsets["a"]["macro_f1"], (12 / 15 + 4 / 7) / 2, 11)


def test_auc(ten: Metrics) -> None:
    # Right steps above each wrong one of 17, ties half: .2 .1 .1 all, .6 10.5, .9 2.5, .95 none.
    check(ranks(ten)["pooled"], (3 * 17 + 10.5 + 2.5 + 0) / (17 * 6), 23)
    # q1 4 of 4, q2 3 of 4, q4 3.5 of 6, q6 0 of 4; q3 and q5 have no wrong step.
    check(ranks(ten)["within"], (1 + 3 / 4 + 3.5 / 6 + 0) / 4, 4)


def test_calibration(ten: Metrics) -> None:
    found = calibrated(ten)
    counts = {row.low: (row.right.count, row.score, row.right.value) for row in found.bins if row.right.count}
    assert counts == {
        0.1: (2, pytest.approx(0.1), 0.0),
        0.2: (1, pytest.approx(0.2), 0.0),
        0.4: (2, pytest.approx(0.4), 1.0),
        0.5: (4, pytest.approx(0.5), 1.0),
        0.6: (2, pytest.approx(0.6), 0.5),
        0.7: (2, pytest.approx(0.7), 1.0),
        0.8: (3, pytest.approx(0.8), 1.0),
        0.9: (7, pytest.approx(6.35 / 7), pytest.approx(5 / 7)),
    }
    check(found.error, (0.2 + 0.2 + 1.2 + 2.0 + 0.2 + 0.6 + 0.6 + 1.35) / 23, 23)
    right = 5 * 0.01 + 3 * 0.04 + 2 * 0.09 + 0.16 + 4 * 0.25 + 2 * 0.36
    check(found.brier, (right + 0.04 + 0.36 + 0.01 + 0.01 + 0.81 + 0.9025) / 23, 23)


def test_best_of_n(ten: Metrics) -> None:
    # q1: 1 is right, 2 is not; q2: neither 3 nor 4; q4: 7 is, 6 is not. By the last score q4 is a draw.
    found = ten.best_of_n
    assert found is not None
    assert found.chains == 2
    check(found.mean, 1 / 3, 3)
    check(found.oracle, 2 / 3, 3)
    expected = {"last": 1.5 / 3, "min": 2 / 3, "mean": 2 / 3, "prod": 2 / 3, "log_odds": 2 / 3}
    assert found.picked.keys() == expected.keys()
    for aggregate, picked in expected.items():
        check(found.picked[aggregate], picked, 3)
        check(found.gain[aggregate], picked - 1 / 3, 3)


def test_another_threshold(ten: Metrics) -> None:
    found = measure(at(TEN, 0.45))  # the same scores are below it
    assert found.first_error.all["f1"].value == ten.first_error.all["f1"].value
    found = measure(at(TEN, 0.55))  # 10 is now taken for wrong from its first step on
    assert found.first_error.all["right"].value == 2 / 4
    assert found.steps.all["accuracy"].value == pytest.approx(14 / 23)


def test_the_tables_show_the_numbers(ten: Metrics) -> None:
    whole, subsets, oracle, reliability = tables(ten, "ten")
    assert [row[1:] for row in oracle.cells] == [("0.4", "75.0"), ("0.4", "79.3")]
    assert [row[1] for row in whole.cells if "mean of subsets" in row[0]] == ["53.3", "69.3", "69.3"]
    assert [row[1] for row in whole.cells if "macro-F1" in row[0]] == ["70.1"]
    assert [row[1] for row in whole.cells if "distance" in row[0]] == ["0.75"]
    assert [row[1] for row in whole.cells if "by last" in row[0]] == ["16.7"]
    assert (subsets.cells[0][0], subsets.cells[0][1].split()[0], subsets.cells[0][-2:]) == ("a", "40.0", ("5", "11"))
    assert [row[-1] for row in reliability.cells] == ["0", "2", "1", "0", "2", "4", "2", "2", "3", "7"]


# --- naive twins ---------------------------------------------------------------------------------


def numbers(found: Metrics) -> dict[str, float | None]:
    """The headline of every measure."""
    best = found.best_of_n
    return {
        "f1": found.first_error.all["f1"].value,
        "mean": found.first_error.mean.value,
        "macro": found.steps.all["macro_f1"].value,
        "pooled": ranks(found)["pooled"].value,
        "within": ranks(found)["within"].value,
        "ece": calibrated(found).error.value,
        "brier": calibrated(found).brier.value,
        "min": best and best.picked["min"].value,
        "distance": found.first_error.position["distance"].value,
    }


def steps_of(chains: Sequence[JudgedSteps]) -> tuple[list[float], list[bool]]:
    pairs = [pair for chain in chains for pair in chain.scored_labels()]
    return [score for score, _ in pairs], [label for _, label in pairs]


def processbench(chains: Sequence[JudgedSteps], threshold: float) -> float | None:
    """ProcessBench's own evaluation, written down naively."""
    data = []
    for chain in chains:
        labels = chain.truth.labels
        wrong = [i for i, label in enumerate(labels) if label is False]
        if None in labels[: wrong[0] if wrong else len(labels)]:
            continue
        below = [i for i, score in enumerate(chain.scores or ()) if score < threshold]
        data.append((wrong[0] if wrong else -1, below[0] if below else -1))
    errors = [label == seen for label, seen in data if label != -1]
    correct = [label == seen for label, seen in data if label == -1]
    if not errors or not correct:
        return None
    first, second = np.mean(errors), np.mean(correct)
    return float(2 * first * second / (first + second)) if first + second else 0.0


def naive_f1(labels: Sequence[bool], predicted: Sequence[bool], positive: bool) -> float:
    """F1 by counting; 0 without any true positive."""
    hits = sum(label == guess == positive for label, guess in zip(labels, predicted, strict=True))
    return 2 * hits / max(list(labels).count(positive) + list(predicted).count(positive), 1)


def naive_auc(labels: Sequence[bool], scores: Sequence[float]) -> float:
    """How often a right step scores higher than a wrong one, over all pairs; a tie counts half."""
    right = [score for score, label in zip(scores, labels, strict=True) if label]
    wrong = [score for score, label in zip(scores, labels, strict=True) if not label]
    return float(np.mean([(high > low) + 0.5 * (high == low) for high in right for low in wrong]))


def naive_calibration_error(labels: Sequence[bool], scores: Sequence[float]) -> float:
    bins: dict[int, list[tuple[float, bool]]] = {}
    for score, label in zip(scores, labels, strict=True):
        bins.setdefault(min(int(score * 10), 9), []).append((score, label))
    return sum(abs(sum(score - label for score, label in steps)) for steps in bins.values()) / len(labels)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(many(), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))
def test_metrics_are_those_of_naive_twins(chains: list[JudgedSteps], threshold: float) -> None:
    found = measure(at(chains, threshold))
    assert found.first_error.all["f1"].value == pytest.approx(processbench(chains, threshold))
    scores, labels = steps_of(chains)
    predicted = [score >= threshold for score in scores]
    steps = found.steps.all
    for name, label in {"f1_right": True, "f1_wrong": False}.items():
        expected = naive_f1(labels, predicted, label) if label in labels else None
        assert steps[name].value == pytest.approx(expected)
    if len(set(labels)) == 2:
        right, wrong = (naive_f1(labels, predicted, label) for label in (True, False))
        assert steps["macro_f1"].value == pytest.approx((right + wrong) / 2)
        assert ranks(found)["pooled"].value == pytest.approx(naive_auc(labels, scores))
    else:
        assert steps["macro_f1"].value is None
        assert ranks(found)["pooled"].value is None
    if labels:
        assert calibrated(found).error.value == pytest.approx(naive_calibration_error(labels, scores))
        assert calibrated(found).brier.value == pytest.approx(np.mean((np.array(scores) - labels) ** 2.0))


def test_intervals_are_those_of_a_naive_bootstrap_over_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstraps, "RESAMPLES", 40)
    chance = random.Random(3)
    chains = [
        scored([chance.random() < 0.6 for _ in range(3)], [chance.random() for _ in range(3)], f"q{i // 2}")
        for i in range(60)
    ]
    bootstrap = Bootstrap([chain.truth.question for chain in chains], seed=5)
    areas, macros = [], []
    once, *resamples = bootstrap.weights()
    assert set(once) == {1}
    for weights in resamples:
        assert all(weights[i] == weights[i + 1] for i in range(0, 60, 2))  # a question's chains stay together
        assert weights.sum() == 60
        drawn = [chain for chain, weight in zip(chains, weights, strict=True) for _ in range(int(weight))]
        scores, labels = steps_of(drawn)
        predicted = [score >= 0.5 for score in scores]
        areas.append(naive_auc(labels, scores))
        macros.append(np.mean([naive_f1(labels, predicted, label) for label in (True, False)]))
    assert len(areas) == 40
    assert ends(ranking(chains, bootstrap)["pooled"]) == pytest.approx(list(np.quantile(areas, (0.025, 0.975))))
    assert ends(step_metrics(chains, bootstrap).all["macro_f1"]) == pytest.approx(
        list(np.quantile(macros, (0.025, 0.975)))
    )
    other = Bootstrap([chain.truth.question for chain in chains], seed=6)
    assert ends(ranking(chains, other)["pooled"]) != ends(ranking(chains, bootstrap)["pooled"])


def test_a_single_question_has_no_interval() -> None:
    found = measure([scored([True, False], [0.9, 0.1]) for _ in range(5)])
    assert ranks(found)["pooled"] == MetricValue(1.0, None, None, 10)


def test_prm_score_is_that_of_the_repository() -> None:
    chance = random.Random(8)
    kinds = [kind for group in GROUPS.values() for kind in group]
    chains = []
    for problem in range(6):
        for kind in ("correct", *kinds):
            labels = [True] * 4 if kind in ("correct", "multi_solutions") else [chance.random() < 0.6 for _ in "1234"]
            scores = [chance.random() for _ in labels]
            chains.append(scored(labels, scores, f"p{problem}", kind))
    found = prm_score(chains, Bootstrap([chain.truth.question for chain in chains]))

    def expected(of: Sequence[str]) -> float:
        scores, labels = steps_of([chain for chain in chains if chain.truth.subset in of])
        taken = [score >= 0.5 for score in scores]
        positive, negative = (naive_f1(labels, taken, one) for one in (True, False))
        return float(positive if of == ["multi_solutions"] else 0.5 * positive + 0.5 * negative)

    assert found.all["score"].value == pytest.approx(expected(kinds))
    for kind in kinds:
        assert found.classes[kind]["score"].value == pytest.approx(expected([kind]))
    for group, members in GROUPS.items():
        assert found.groups[group].value == pytest.approx(np.mean([expected([kind]) for kind in members]))
    originals = [score >= 0.5 for chain in chains if chain.truth.subset == "correct" for score in chain.scores or ()]
    assert found.classes["circular"]["original"].value == pytest.approx(np.mean(originals))
    firsts = [
        chain.verdicts[chain.truth.first_error] is False
        for chain in chains
        if chain.truth.subset == "deception" and chain.truth.first_error is not None
    ]
    assert found.classes["deception"]["first_error"].value == pytest.approx(np.mean(firsts))
    assert found.classes["multi_solutions"]["first_error"].value is None


def macro_f1(chains: Sequence[JudgedSteps], threshold: float) -> float | None:
    """Macro-F1 over steps, written down naively."""
    scores, labels = steps_of(chains)
    predicted = [score >= threshold for score in scores]
    if len(set(labels)) < 2:
        return None
    return float(np.mean([naive_f1(labels, predicted, label) for label in (True, False)]))


@pytest.mark.parametrize(("goal", "naive"), [("first_error_f1", processbench), ("macro_f1", macro_f1)])
@settings(deadline=None, max_examples=60)
@given(chains=many())
def test_the_best_threshold_is_found(
    goal: Goal, naive: Callable[[Sequence[JudgedSteps], float], float | None], chains: list[JudgedSteps]
) -> None:
    values = {score for chain in chains for score in chain.scores or ()}
    tried = [*values, *(np.nextafter(value, 2) for value in values)]
    brute = [naive(chains, threshold) for threshold in tried]
    best = best_threshold(chains, goal)
    if best is None or brute[0] is None:
        assert (best, brute[0]) == (None, None)
        return
    highest = max(one or 0.0 for one in brute)
    assert best.f1 == pytest.approx(highest)
    assert naive(chains, best.threshold) == pytest.approx(highest)
    reach = abs(best.threshold - 0.5)
    nearer = [one for one in 0.5 + reach * np.linspace(-1, 1, 21) if abs(one - 0.5) < reach]
    assert all((naive(chains, one) or 0.0) < highest - 1e-12 for one in nearer)


def test_the_best_thresholds_on_the_ten_chains(ten: Metrics) -> None:
    # Up to .2, 2 and 6 are seen, and all four chains without an error are taken for right below .4.
    best = best_threshold(TEN, "first_error_f1")
    assert best is not None
    assert (best.threshold, best.f1) == (0.4, pytest.approx(2 * 0.6 * 1 / 1.6))  # of these, the nearest to 0.5
    # Up to .4, all 17 right steps and 3 of 6 wrong ones are taken for what they are.
    macro = best_threshold(TEN, "macro_f1")
    assert macro is not None
    assert (macro.threshold, macro.f1) == (0.4, pytest.approx((2 * 17 / (2 * 17 + 3) + 2 * 3 / (2 * 3 + 3)) / 2))
    assert ten.oracle == {"first_error_f1": best, "macro_f1": macro}


# --- thresholds, subsets and replies that cannot be used -----------------------------------------


def test_a_strict_threshold_takes_its_own_score_for_wrong() -> None:
    found = measure(at(TEN, 0.5, strict=True))
    assert found.first_error.all["right"].value == 2 / 4  # the tenth chain's scores are 0.5
    assert found.steps.all["accuracy"].value == pytest.approx(14 / 23)


def test_the_three_overall_numbers(ten: Metrics) -> None:
    # a: 8 right steps, 2 taken for wrong; 3 wrong ones, 1 taken for right. b: 9 right; 3 wrong, 2 taken for right.
    a, b = (12 / 15 + 4 / 7) / 2, (2 * 9 / (2 * 9 + 2) + 2 * 1 / (2 * 1 + 2)) / 2
    check(ten.steps.all["macro_f1"], (6 / 7 + 6 / 11) / 2, 23)
    check(ten.steps.weighted, (11 * a + 12 * b) / 23, 2)
    check(ten.steps.mean, (a + b) / 2, 2)


def test_steps_without_a_verdict_lower_recall_alone() -> None:
    solutions = [
        judged([True, True, False], [True, True, False], "q1", "a"),
        judged([True, False, None], [None, None, None], "q2", "a"),  # an invalid reply
        judged([True, False, False], [True, False, None], "q3", "b"),  # only the first error is named
    ]
    found = measure(solutions)
    assert (found.invalid.solutions, found.invalid.steps) == (1, 2)
    # Right: 3 of 4 found, none of the others taken for right. Wrong: 2 of 4 found.
    assert found.steps.all["f1_right"].value == pytest.approx(2 * 3 / (2 * 3 + 1))
    assert found.steps.all["f1_wrong"].value == pytest.approx(2 * 2 / (2 * 2 + 2))
    assert found.steps.all["accuracy"].value == pytest.approx(5 / 8)
    assert found.first_error.all["wrong"].value == pytest.approx(2 / 3)
    assert (found.ranking, found.calibration, found.oracle) == (None, None, {})


def test_solutions_without_scores_are_not_selected() -> None:
    silent = judged([R, W], [None, None], "q", right=False)
    wrong, right = scored([R], [0.4], "q", right=False), scored([R], [0.6], "q", right=True)
    found = measure([silent, wrong, right]).best_of_n
    assert found is not None
    assert (found.chains, found.mean.value, found.picked["min"].value) == (2, 0.5, 1.0)
    assert measure([silent, right]).best_of_n is None


def test_the_position_needs_a_known_first_error() -> None:
    found = measure([scored([N, W], [0.9, 0.1]), scored([R, W], [0.9, 0.1])]).first_error.position
    assert (found["exact"].value, found["exact"].count) == (1.0, 1)


def test_an_invalid_reply_about_a_right_chain_is_no_hit() -> None:
    found = measure([judged([True, True], [None, None]), judged([False], [False])])
    assert found.first_error.all["right"].value == 0.0
    assert found.first_error.all["wrong"].value == 1.0


def test_prm_score_of_valid_replies_leaves_the_others_out() -> None:
    valid = [judged([True, False], [True, False], f"p{n}", "circular") for n in range(3)]
    silent = judged([True, False], [None, None], "p9", "circular")
    original = judged([True], [None], "p9", "correct")
    found = measure([*valid, silent, original], prmbench=True).prm_score
    assert found is not None
    check(found.of_valid, 1.0, 6)
    check(found.all["score"], 2 * 3 / (2 * 3 + 1), 8)
    assert found.all["original"].count == 1
    assert found.all["first_error"].value == 3 / 4  # no verdict is no error that is found


def test_original_solutions_count_beside_the_modified_ones_of_their_problems() -> None:
    solutions = [
        judged([True, False], [True, False], "p1", "circular"),
        judged([True, False], [True, True], "p2", "deception"),
        judged([True, True], [True, False], "p1", "correct"),
        judged([True], [True], "p2", "correct"),
    ]
    found = measure(solutions, prmbench=True).prm_score
    assert found is not None
    assert (found.of_valid.count, found.all["score"].count) == (4, 4)
    check(found.all["original"], 2 / 3, 3)
    check(found.classes["circular"]["original"], 1 / 2, 2)
    check(found.classes["deception"]["original"], 1.0, 1)


# --- properties ----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(many(st.sampled_from([True, False])))
def test_a_perfect_scorer_has_the_best_value_of_every_metric(chains: list[JudgedSteps]) -> None:
    perfect = [
        scored(
            one.truth.labels,
            [float(bool(label)) for label in one.truth.labels],
            one.truth.question,
            one.truth.subset,
            one.truth.right,
        )
        for one in chains
    ]
    found = numbers(measure(perfect))
    best = {"f1": 1.0, "mean": 1.0, "macro": 1.0, "pooled": 1.0, "within": 1.0, "ece": 0.0, "brier": 0.0, "distance": 0}
    for name, value in best.items():
        assert found[name] in (None, pytest.approx(value)), name


@settings(deadline=None, max_examples=40)
@given(many(st.sampled_from([True, False])), st.floats(0, 1))
def test_a_constant_score_has_chance_level_metrics(chains: list[JudgedSteps], score: float) -> None:
    same = [
        scored(one.truth.labels, [score] * len(one.verdicts), one.truth.question, one.truth.subset, one.truth.right)
        for one in chains
    ]
    found = measure(same)
    right = float(np.mean(steps_of(chains)[1]))
    if 0 < right < 1:
        assert ranks(found)["pooled"].value == pytest.approx(0.5)
        taken = right if score >= 0.5 else 1 - right  # the share of steps that it is right about
        assert found.steps.all["macro_f1"].value == pytest.approx(taken / (1 + taken))
        assert found.steps.all["accuracy"].value == pytest.approx(taken)
    assert calibrated(found).error.value == pytest.approx(abs(score - right))
    if score >= 0.5:
        assert found.first_error.all["f1"].value in (None, 0.0)
        assert found.first_error.all["right"].value in (None, 1.0)
        assert found.first_error.position["missed"].value in (None, 1.0)
    if found.best_of_n is not None:
        assert found.best_of_n.gain["min"].value == pytest.approx(0)


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(many(), st.randoms(use_true_random=False))
def test_the_order_of_chains_changes_nothing(chains: list[JudgedSteps], chance: random.Random) -> None:
    mixed = chance.sample(chains, len(chains))
    first, second = measure(chains), measure(mixed)
    assert numbers(second) == pytest.approx(numbers(first))
    for one, other in (
        (ranks(first)["pooled"], ranks(second)["pooled"]),
        (first.first_error.mean, second.first_error.mean),
    ):
        assert ends(other) == pytest.approx(ends(one))


def ends(metric: MetricValue) -> list[float]:
    return [end for end in (metric.low, metric.high) if end is not None]
