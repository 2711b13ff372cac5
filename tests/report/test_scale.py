"""The curve, the costs and the best uses of a budget equal those computed with the searches by brute force."""

from __future__ import annotations

import asyncio
import json
import random
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path as FilePath
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from atomthink_plugin.answers import equivalent
from atomthink_plugin.api import AtomThinkError, Failure, Node, Outcome, Path, Rollout, Usage
from atomthink_plugin.cli import main
from atomthink_plugin.report.budget_choice import (
    MIN_QUESTIONS,
    BudgetChoice,
    _half,
    agreement,
    agreement_parts,
    best_choices,
    difficulty_parts,
)
from atomthink_plugin.report.candidates import Candidate, SampledQuestion, sampled_questions
from atomthink_plugin.report.chart import DASHES
from atomthink_plugin.report.replay import MAJORITY, PASS, Replay, SelectionMethod
from atomthink_plugin.report.run_reader import RunQuestion, read
from atomthink_plugin.report.scale import _by_agreement, grids, scaling
from atomthink_plugin.report.scaling_curve import CurvePoint, common_methods, curve
from atomthink_plugin.searches.beam import beam
from atomthink_plugin.searches.best_of_n import best_of_n
from atomthink_plugin.searches.majority import majority
from atomthink_plugin.searches.quick import quick
from atomthink_plugin.searches.weighted import weighted
from tests.report.runs import asked, search_all, write_run
from tests.report.test_replay import Given, search_of
from tests.trees import Grove, groves, tree_of

SEED = 7
SEARCHES = {"majority": majority, "weighted": weighted, "best_of_n": best_of_n}

forest = st.lists(groves(depth=3), min_size=1, max_size=3)
slowly = settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])


def journaled(folder: FilePath, trees: Sequence[Grove], n: int, search: str = "best_of_n") -> list[SampledQuestion]:
    outcomes = search_all(SEARCHES[search](n), trees, seed=SEED)
    run = write_run(folder, outcomes, ["1"] * len(trees), {"name": search, "n": n})
    return sampled_questions(read(run.out))[0]


def paths_of(tree: Grove, doc_id: int, n: int) -> list[Path]:
    return asyncio.run(tree_of(tree, id=asked(doc_id), seed=SEED).rollouts(n))


class Scored(Given):
    """Values by the tree's own scores, for every aggregate."""

    def __init__(self, paths: Sequence[Path], tree: Grove) -> None:
        super().__init__(paths, {})
        self.tree = tree

    async def value(self, path: Path, aggregate: Any) -> float:
        return self.tree.value("\n\n".join(step.text for step in path.steps), aggregate)


def brute_force(tree: Grove, paths: Sequence[Path], method: SelectionMethod, size: int) -> float:
    """The share of right choices of the search, run on every subset of the paths."""

    def right(subset: Sequence[Path]) -> bool:
        if method == PASS:
            return any(equivalent(path.answer or "", "1") for path in subset)
        scored: Any = Scored(subset, tree)
        choice = asyncio.run(search_of(method, size)(scored))
        return equivalent(choice.path.answer or "", "1")

    return fmean(right(subset) for subset in combinations(paths, size))


@slowly
@given(forest, st.integers(2, 5), st.data())
def test_every_point_is_the_mean_over_all_subsets(
    tmp_path_factory: pytest.TempPathFactory, trees: list[Grove], n: int, data: st.DataObject
) -> None:
    questions = journaled(tmp_path_factory.mktemp("run"), trees, n)
    method = data.draw(st.sampled_from(common_methods(questions)))
    size = data.draw(st.integers(1, n))
    (point,) = curve(questions, [size], [method])
    rollouts = [paths_of(tree, doc_id, n) for doc_id, tree in enumerate(trees)]
    expected = [brute_force(tree, paths, method, size) for tree, paths in zip(trees, rollouts, strict=True)]
    assert point.shares == pytest.approx(expected)
    assert point.accuracy[0] == pytest.approx(fmean(expected))
    words = [fmean(_tokens(subset) for subset in combinations(paths, size)) for paths in rollouts]
    assert point.tokens == pytest.approx(fmean(words))
    calls = [fmean(_scored(subset, method) for subset in combinations(paths, size)) for paths in rollouts]
    assert point.prm_calls == pytest.approx(fmean(calls))


def _tokens(paths: Sequence[Path]) -> int:
    """The tokens of a path's steps. These trees have no invalid steps."""
    return sum(len(step.token_ids) for path in paths for step in path.steps)


def _scored(paths: Sequence[Path], method: SelectionMethod) -> int:
    if not method.scored:
        return 0
    nodes = {node.key for path in paths for node in (path.lineage if method.aggregate != "last" else (path,))}
    return len(nodes)


@slowly
@given(forest, st.integers(1, 6), st.integers(0, 8), st.sampled_from(sorted(SEARCHES)))
def test_a_real_run_chooses_what_the_first_candidates_of_a_larger_one_give(
    tmp_path_factory: pytest.TempPathFactory, trees: list[Grove], few: int, more: int, search: str
) -> None:
    questions = journaled(tmp_path_factory.mktemp("run"), trees, few + more)
    method = SelectionMethod(search, None if search == "majority" else "mean")
    real = search_all(SEARCHES[search](few), trees, seed=SEED)
    for one, outcome in zip(questions, real, strict=True):
        (chosen,) = Replay(one.candidates).chosen(method, np.arange(few)[None, :])
        assert one.candidates[chosen].text == outcome.text
    assert [sum(c.answer is not None for c in one.candidates) for one in questions] == [few + more] * len(trees)


@slowly
@given(forest, st.integers(2, 6), st.sampled_from(sorted(SEARCHES)))
def test_the_last_point_is_the_runs_own_accuracy_and_cost(
    tmp_path_factory: pytest.TempPathFactory, trees: list[Grove], n: int, search: str
) -> None:
    questions = journaled(tmp_path_factory.mktemp("run"), trees, n, search)
    method = SelectionMethod(search, None if search == "majority" else "mean")
    (point,) = curve(questions, [n], [method])
    assert list(point.shares) == [float(bool(one.question.correct)) for one in questions]
    assert point.tokens == pytest.approx(fmean(one.question.tokens or 0 for one in questions))
    assert point.prm_calls == pytest.approx(fmean(one.question.prm_calls or 0 for one in questions))
    seconds = fmean(one.question.seconds or 0.0 for one in questions)
    assert point.seconds == pytest.approx(seconds)
    assert curve(questions, [n], [method], pace=3.0)[0].seconds == pytest.approx(3.0)


TREE = Grove(
    {
        "": {"Step 1: Look.": 0.5, "Step 1: Guess.": 0.5},
        "Step 1: Look.": {"Step 2: To sum up, the final answer is: 1.": 1.0},
        "Step 1: Guess.": {"Step 2: To sum up, the final answer is: 2.": 1.0},
    },
    {
        "Step 1: Look.": 0.75,
        "Step 1: Guess.": 0.25,
        "Step 1: Look.\n\nStep 2: To sum up, the final answer is: 1.": 0.5,
        "Step 1: Guess.\n\nStep 2: To sum up, the final answer is: 2.": 0.5,
    },
    {},
)


@pytest.fixture
def outcomes() -> list[Outcome]:
    return search_all(best_of_n(8), [TREE] * 44)


def groups(doc_id: int) -> dict[str, list[str]]:
    return {"calculations": [str(2 + doc_id % 2)], "figure": ["bars"]}


def test_a_failed_question_is_wrong_for_any_n_and_a_missing_one_is_skipped(
    outcomes: list[Outcome], tmp_path: FilePath
) -> None:
    run = write_run(tmp_path, [*outcomes[:3], Failure("too long")], ["1"] * 4, {"name": "best_of_n", "n": 8})
    found = scaling(run.out, None)
    assert len(found.questions) == 4
    assert all(point.shares[3] == 0.0 for point in found.points)
    assert run.journal is not None
    file = run.journal / "rank0.jsonl"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[1:]))
    less = scaling(run.out, None)
    assert len(less.questions) == 3
    assert any(note.startswith("1 questions") for note in less.notes)


def test_different_numbers_of_candidates_are_noted(outcomes: list[Outcome], tmp_path: FilePath) -> None:
    fewer = replace(outcomes[0], rollouts=outcomes[0].rollouts[:-1])
    most = len(outcomes[0].rollouts)
    for name, first, noted in (("alike", outcomes[0], False), ("fewer", fewer, True)):
        run = write_run(tmp_path / name, [first, *outcomes[1:]], ["1"] * len(outcomes))
        assert any(f"{most - 1} to {most} candidates" in note for note in scaling(run.out, None).notes) == noted


def test_a_failed_question_has_its_whole_cost_for_any_n(outcomes: list[Outcome], tmp_path: FilePath) -> None:
    failure = Failure("the server went away", Usage(policy_calls=3, generated=500, seconds=0.5))
    run = write_run(tmp_path, [*outcomes[:3], failure], ["1"] * 4, {"name": "best_of_n", "n": 8})
    found = scaling(run.out, None)
    assert found.run.pace == 2.0
    for point in found.points:
        own = [point.n / 8 * outcome.usage.generated for outcome in outcomes[:3]]
        assert point.spent == pytest.approx((*own, 500))
        assert point.tokens == pytest.approx(fmean((*own, 500)))


def test_all_candidates_have_one_judge_whose_agreement_with_the_task_is_reported(
    outcomes: list[Outcome], tmp_path: FilePath
) -> None:
    """The task judges everything as right. With its verdicts on chosen candidates the curve would rise to 100 %."""
    run = write_run(tmp_path, outcomes[:4], ["2"] * 4, {"name": "best_of_n", "n": 8}, extra={"acc": 1.0})
    questions, judged = sampled_questions(read(run.out))
    assert (judged.agreed, judged.of, judged.right) == (0, 4, 4)
    (point,) = curve(questions, [8], [SelectionMethod("best_of_n", "mean")])
    assert point.shares == (0.0,) * 4
    found = scaling(run.out, None)
    assert any(note.startswith(judged.summary) and note != judged.summary for note in found.notes)


def test_without_a_reference_answer_nothing_is_judged(outcomes: list[Outcome], tmp_path: FilePath) -> None:
    told = {"acc": 1.0, "target": None}
    run = write_run(tmp_path, outcomes[:4], ["1"] * 4, {"name": "best_of_n", "n": 8}, extra=told)
    with pytest.raises(AtomThinkError, match="without reference answers"):
        sampled_questions(read(run.out))


def test_a_question_with_one_candidate_removes_no_method(outcomes: list[Outcome], tmp_path: FilePath) -> None:
    direct = Outcome(
        "1", "1", ("1",), (None,), 0.0, "final", Usage(1, 0, 2), (Node("d", "root", "1", None, -0.5, 2, 1, "1"),)
    )
    direct = replace(direct, rollouts=(Rollout("d", -0.25, 2, 0.1),))
    run = write_run(tmp_path, [*outcomes[:3], direct], ["1"] * 4, {"name": "best_of_n", "n": 8})
    found = scaling(run.out, None)
    assert {point.method for point in found.points} >= {
        SelectionMethod("best_of_n", "min"),
        SelectionMethod("weighted", "mean"),
    }
    for point in found.points:
        assert (point.shares[3], point.spent[3]) == (1.0, 2.0)


def test_the_policys_confidence_costs_no_call(tmp_path: FilePath) -> None:
    free = [replace(one, usage=replace(one.usage, score_calls=0)) for one in search_all(best_of_n(4), [TREE] * 3)]
    run = write_run(tmp_path, free, ["1"] * 3, {"name": "best_of_n", "n": 4})
    assert {point.prm_calls for point in scaling(run.out, None).points} == {0.0}


def test_a_benchmarks_candidates_are_judged_by_its_rules(tmp_path: FilePath) -> None:
    record = {
        "pid": "1", "question": "Which?", "choices": ["ten", "1"], "unit": None, "precision": None, "answer": "ten",
        "question_type": "multi_choice", "answer_type": "text", "metadata": {},
    }  # fmt: skip
    told = {"benchmark": "mathvista", "question": record, "correct": False, "acc": None}
    run = write_run(tmp_path, search_all(majority(6), [TREE]), ["ten"], {"name": "majority", "n": 6}, extra=told)
    (one,), judged = sampled_questions(read(run.out))
    assert judged.by == "the rules for mathvista"
    assert {candidate.correct for candidate in one.candidates} == {False}
    right = replace(one.question, record={**record, "answer": "1"}, correct=True)
    ((again,), _) = sampled_questions(replace(read(run.out), questions=[right]))
    assert {candidate.answer: candidate.correct for candidate in again.candidates}["1"]


HARD = RunQuestion(
    task="sums", doc_id=0, repeat=0, text="?", options=(), target="1", reply="", extracted=None, correct=False,
    rule=None, scorer="acc", groups={}, failed=None, tokens=160, policy_calls=16, prm_calls=0, seconds=1.0,
    stopped="final",
)  # fmt: skip


# --- the best use of a budget --------------------------------------------------------------------


def points_of(shares: dict[tuple[SelectionMethod, int], list[float]]) -> list[CurvePoint]:
    return [CurvePoint(method, n, tuple(own), (100.0 * n,) * len(own), 0.0, 0.0) for (method, n), own in shares.items()]


def test_a_choice_is_made_on_one_half_and_reported_on_the_other(outcomes: list[Outcome], tmp_path: FilePath) -> None:
    run = write_run(tmp_path, outcomes, ["1"] * 44, {"name": "best_of_n", "n": 8}, groups)
    questions, _ = sampled_questions(read(run.out))
    halves = [_half(one) for one in questions]
    assert MIN_QUESTIONS < sum(halves) < len(halves) - MIN_QUESTIONS
    scored = SelectionMethod("best_of_n", "mean")
    shares = {
        (MAJORITY, 1): [0.5] * 44,
        (scored, 1): [0.5] * 44,
        (MAJORITY, 2): [0.25 if half else 0.75 for half in halves],  # good on the first half, bad on the second
        (scored, 2): [1.0 if half else 0.6 for half in halves],
        (PASS, 2): [1.0] * 44,
    }
    whole = {one.budget: one for one in best_choices(questions, points_of(shares), [])}
    assert (whole[100.0].method, whole[100.0].n) == (MAJORITY, 1)  # ties go to the method without scores
    assert (whole[200.0].method, whole[200.0].n) == (MAJORITY, 2)
    assert whole[200.0].accuracy[0] == 0.25
    assert (whole[200.0].chosen_on, whole[200.0].reported_on) == (halves.count(False), halves.count(True))


def eighty() -> list[SampledQuestion]:
    """Questions without candidates, for choices among given points."""
    return [SampledQuestion(replace(HARD, doc_id=i), (), 0, 0.0, 0.0, {}) for i in range(80)]


def test_each_difficulty_has_its_own_choice() -> None:
    easy = [i % 2 == 0 for i in range(80)]
    levels = {True: {"level": ("1",), "figure": ("bars",)}, False: {"level": ("2",), "figure": ("bars",)}}
    questions = [
        replace(one, question=replace(one.question, groups=levels[is_easy]))
        for one, is_easy in zip(eighty(), easy, strict=True)
    ]
    scored = SelectionMethod("best_of_n", "mean")
    shares = {
        (MAJORITY, 1): [0.9 if one else 0.2 for one in easy],
        (scored, 1): [0.8 if one else 0.4 for one in easy],
    }
    found = {one.part: one for one in best_choices(questions, points_of(shares), difficulty_parts(questions))}
    assert set(found) == {"all", "level 1", "level 2"}
    assert found["all"].method == scored
    halves = [_half(one) for one in questions]
    for part, kind, method, accuracy, overall in (
        ("level 1", True, MAJORITY, 0.9, 0.8),
        ("level 2", False, scored, 0.4, 0.4),
    ):
        assert found[part].method == method
        assert (found[part].accuracy[0], found[part].overall) == pytest.approx((accuracy, overall))
        assert found[part].reported_on == sum(half and one is kind for half, one in zip(halves, easy, strict=True))
    few = best_choices(questions, points_of(shares), [("few", list(range(2 * MIN_QUESTIONS - 1)))])
    assert [one.part for one in few] == ["all"]


def test_a_budget_is_that_of_the_part_it_is_spent_on() -> None:
    easy, dear = list(range(0, 80, 2)), list(range(1, 80, 2))
    spent = {n: tuple(n * (900.0 if i % 2 else 100.0) for i in range(80)) for n in (1, 2)}
    points = [CurvePoint(MAJORITY, n, (0.2 * n,) * 80, spent[n], 0.0, 0.0) for n in (1, 2)]
    found = {(one.part, one.budget): one for one in best_choices(eighty(), points, [("easy", easy), ("dear", dear)])}
    assert {budget for _, budget in found} == {500.0, 1000.0}
    assert (found["easy", 500.0].n, found["easy", 500.0].tokens) == (2, 200.0)
    assert (found["all", 1000.0].n, found["dear", 1000.0].n) == (2, 1)
    assert ("dear", 500.0) not in found  # not even one candidate can be paid for


def test_a_part_by_agreement_is_not_judged_by_the_candidates_that_agreed() -> None:
    """All questions are equally hard. Using the same candidates twice would show easy and hard questions."""
    chance = random.Random(3)
    questions = []
    for number in range(600):
        answers = ["1" if chance.random() < 0.5 else str(chance.randint(2, 9)) for _ in range(16)]
        candidates = [Candidate((str(i),), answer, answer, -1.0, {}, answer == "1") for i, answer in enumerate(answers)]
        one = replace(HARD, doc_id=number)
        questions.append(SampledQuestion(one, candidates, 160.0, 1.0, 0.0, {}))
    own = dict(by_part(best_choices(questions, curve(questions, [1], [MAJORITY]), agreement_parts(questions))))
    honest = dict(by_part(_by_agreement(questions, [MAJORITY])))
    names = [part for part in own if part != "all"]
    assert own[names[-1]] - own[names[0]] > 0.25
    names = [part for part in honest if part != "all"]
    assert len(names) == 3
    assert all(abs(honest[part] - 0.5) < 0.08 for part in names)


def by_part(found: Sequence[BudgetChoice]) -> list[tuple[str, float]]:
    return [(one.part, one.accuracy[0]) for one in found if one.budget == min(other.budget for other in found)]


def test_agreement_is_the_share_of_the_most_frequent_answer(outcomes: list[Outcome], tmp_path: FilePath) -> None:
    (one, *_), _ = sampled_questions(read(write_run(tmp_path, outcomes[:1], ["1"], {"name": "best_of_n", "n": 8}).out))
    answers = [candidate.answer for candidate in one.candidates]
    assert agreement(one) == max(answers.count("1"), answers.count("2")) / 8


# --- the command ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_writes_what_it_computed(
    outcomes: list[Outcome], tmp_path: FilePath, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path, outcomes, ["1"] * 44, {"name": "best_of_n", "n": 8}, groups)
    files = {kind: tmp_path / f"curve.{kind}" for kind in ("json", "png", "svg")}
    assert (
        main(["scale", str(run.out), *(part for kind, file in files.items() for part in (f"--{kind}", str(file)))]) == 0
    )
    written = json.loads(files["json"].read_text())
    found = scaling(run.out, None)
    assert [(one["search"], one["aggregate"], one["n"]) for one in written["points"]] == [
        (point.method.search, point.method.aggregate, point.n) for point in found.points
    ]
    assert {one["n"] for one in written["points"]} == {1, 2, 4, 8}
    for one, point in zip(written["points"], found.points, strict=True):
        assert (one["accuracy"], one["low"], one["high"]) == point.accuracy
    printed = capsys.readouterr().out
    for point in found.points:
        if point.n == 4:
            (row,) = re.findall(rf"^{point.method.name}  +(.*)$", printed, re.MULTILINE)
            assert f"{100 * point.accuracy[0]:.1f}" in re.split("  +", row)[2]
    picture = ElementTree.parse(files["svg"])
    texts = {element.text for element in picture.iter() if element.text}
    assert {"pass@N", "majority", "weighted", "best of N", "policy tokens per question"} <= texts
    assert "estimated wall time per question, s" in texts
    assert {"N=1", "2", "4", "8"} <= texts  # the numbers of candidates, at the points
    assert len({tuple(dashes) for dashes in DASHES.values()}) == len(DASHES)
    assert Image.open(files["png"]).width > 1000


def test_seconds_of_a_resumed_run_are_called_latency(outcomes: list[Outcome], tmp_path: FilePath) -> None:
    run = write_run(tmp_path, outcomes, ["1"] * 44, {"name": "best_of_n", "n": 8})
    found = scaling(run.out, None)
    resumed = replace(found, run=replace(found.run, pace=None))
    labels = [{cells[0] for cells in grids(one)[0].cells} for one in (found, resumed)]
    assert [any("latency" in label for label in own) for own in labels] == [False, True]
    assert [any(label.startswith("s/q") for label in own) for own in labels] == [True, False]


def test_runs_without_a_curve_are_refused_with_the_reason(
    outcomes: list[Outcome], tmp_path: FilePath, capsys: pytest.CaptureFixture[str]
) -> None:
    targets = ["1"] * 3
    unscored = write_run(tmp_path / "d", outcomes[:3], targets).journal
    assert unscored is not None
    cases = {
        "--journal": write_run(tmp_path / "a", outcomes[:3], targets, journal=False).out,
        "beam": write_run(tmp_path / "b", search_all(beam(2, 2), [TREE] * 3), targets, {"name": "beam"}).out,
        "n=16": write_run(tmp_path / "c", search_all(quick(), [TREE] * 3), targets, {"name": "quick"}).out,
        unscored.name: unscored,
        "nowhere": tmp_path / "nowhere",
    }
    for name, run in cases.items():
        assert main(["scale", str(run)]) == 2
        assert name in capsys.readouterr().err
    good = write_run(tmp_path / "e", outcomes, ["1"] * 44, {"name": "best_of_n", "n": 8}).out
    assert main(["scale", str(good), "--json", str(tmp_path / "no" / "file")]) == 2
    assert "`--json" in capsys.readouterr().err
    with pytest.raises(AtomThinkError, match="--journal"):
        scaling(good, tmp_path / "a")
