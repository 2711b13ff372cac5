"""What holds for every registered search, with its default arguments, format and settings.

Results depend neither on the order of questions, nor on concurrency, timing or batches, nor on a kill. No budget is
exceeded. A history, a scorer that rejects and a policy without log-probabilities still give an outcome.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path as FilePath
from typing import Any

import pytest
from PIL import Image

from atomthink_plugin.api import (
    Failure,
    Format,
    Message,
    Outcome,
    Path,
    Question,
    QuestionError,
    Result,
    Search,
    SearchKind,
    ServerError,
)
from atomthink_plugin.config import plan
from atomthink_plugin.plugins.registry import registry
from atomthink_plugin.runtime.journal import Journal
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.runtime.settings import Settings
from atomthink_plugin.searches.quick import quick
from tests.runtime.test_runner import timeless
from tests.searches.thinker import Scorer, Thinker, by_digest

KINDS = registry().searches
OPTIONS = ("0", "1", "2")
PICTURE = Image.new("RGB", (4, 4), "red")


def asked(i: int) -> Question:
    """Free-form questions, questions with options and questions with an image in turn."""
    if i % 3 == 1:
        text = f"Which number is figure {i}?\nChoices:\n" + "\n".join(map("({}) {}".format, "ABC", OPTIONS))
        return Question(f"q{i}", (Message("user", (text,)),), choices=OPTIONS)
    return Question(f"q{i}", (Message("user", (*[PICTURE][: i % 3], f"What is the sum of figure {i}?")),))


QUESTIONS = [asked(i) for i in range(4)]


@dataclass(frozen=True)
class Planned:
    """A search as a command line without further arguments plans it."""

    kind: SearchKind
    search: Search
    format: Format
    settings: Settings

    def runner(self, policy: Thinker, scorer: Scorer | None = None, **changes: Any) -> Runner:
        roles = dict.fromkeys((*self.kind.roles, *self.kind.optional_roles), policy)
        scorer = (scorer or Scorer()) if self.kind.scored else None
        whole = Runner(policy, scorer, self.format, self.search, self.settings, roles=roles, trees=True)
        return replace(whole, **changes)

    def limited(self, **limits: int | float | None) -> Settings:
        return replace(self.settings, **limits)  # type: ignore[arg-type]


@cache
def planned(name: str) -> Planned:
    kind = KINDS[name]
    typed = {"thinking": "slow", "search": name, "pretrained": "scripted"}
    typed |= {f"{role}_pretrained": "scripted" for role in kind.roles}
    found = plan("transformers", typed | ({"scorer": "confidence"} if kind.scored else {}))
    return Planned(kind, found.search, found.format, found.settings)


@pytest.fixture(params=sorted(KINDS))
def way(request: pytest.FixtureRequest) -> Planned:
    return planned(request.param)


@pytest.fixture(params=sorted(name for name, kind in KINDS.items() if kind.scored))
def scored_way(request: pytest.FixtureRequest) -> Planned:
    return planned(request.param)


def outcome(results: list[Result]) -> Outcome:
    (result,) = results
    assert isinstance(result, Outcome), result
    return result


@pytest.mark.parametrize(("concurrency", "batches"), [(4, 0), (3, 3), (1, 8)])
def test_results_do_not_depend_on_order_concurrency_timing_and_batches(
    way: Planned, concurrency: int, batches: int
) -> None:
    expected = timeless(way.runner(Thinker(), concurrency=1).run(QUESTIONS))
    assert all(isinstance(result, Outcome) for result in expected)
    chance = random.Random(concurrency)
    order = chance.sample(range(len(QUESTIONS)), len(QUESTIONS))
    slow = Thinker(delay=lambda: chance.randrange(6), batches=batches)
    results = timeless(way.runner(slow, concurrency=concurrency).run([QUESTIONS[i] for i in order]))
    for i, result in zip(order, results, strict=True):
        assert result == expected[i]


@pytest.mark.parametrize("limits", [{"budget_calls": 9}, {"budget_tokens": 120}])
def test_a_budget_ends_a_search_at_the_same_place_whatever_the_timing(way: Planned, limits: dict[str, int]) -> None:
    settings, chance = way.limited(**limits), random.Random(0)
    expected = timeless(way.runner(Thinker(), settings=settings, concurrency=1).run(QUESTIONS))
    slow = Thinker(delay=lambda: chance.randrange(9))
    assert timeless(way.runner(slow, settings=settings).run(QUESTIONS)) == expected


def test_no_sample_is_drawn_twice(way: Planned) -> None:
    policy = Thinker()
    way.runner(policy).run([asked(i) for i in range(12)])
    assert [draw for draw, times in policy.draws.items() if times > 1] == []


class KillError(RuntimeError):
    """Ends a run as a kill would."""


@pytest.mark.parametrize("share", [0.02, 0.4, 0.9])
def test_a_killed_run_asks_no_answered_request_again(way: Planned, share: float, tmp_path: FilePath) -> None:
    whole, whole_scorer = Thinker(), Scorer()
    expected = timeless(way.runner(whole, whole_scorer).run(QUESTIONS[:3]))
    limit = int(share * whole.asked.total())

    def dies() -> None:
        if first.answered.total() >= limit:
            raise KillError

    chance = random.Random(limit)
    first, first_scorer = Thinker(delay=lambda: chance.randrange(3), fails=dies), Scorer()
    with opened(tmp_path) as journal, pytest.raises(KillError):
        way.runner(first, first_scorer, journal=journal, concurrency=2, on_error="raise").run(QUESTIONS[:3])
    second, second_scorer = Thinker(), Scorer()
    with opened(tmp_path) as journal:
        results = way.runner(second, second_scorer, journal=journal).run(QUESTIONS[:3])
    assert timeless(results) == expected
    assert first.answered + second.asked == whole.asked
    assert first_scorer.asked + second_scorer.asked == whole_scorer.asked


@contextlib.contextmanager
def opened(folder: FilePath) -> Iterator[Journal]:
    with contextlib.closing(Journal(folder, "every", {})) as journal:
        yield journal


@pytest.mark.parametrize("calls", [1, 2, 3, 4, 5, 7, 9, 12, 16, 24, 40])
def test_no_budget_of_calls_is_exceeded(way: Planned, calls: int) -> None:
    for question in QUESTIONS[:3]:
        policy = Thinker()
        result = outcome(way.runner(policy, settings=way.limited(budget_calls=calls)).run([question]))
        assert result.usage.policy_calls == policy.samples <= calls


@pytest.mark.parametrize("tokens", [1, 3, 9, 20, 40, 80, 160, 320])
def test_no_budget_of_tokens_is_exceeded(way: Planned, tokens: int) -> None:
    for question in QUESTIONS[:3]:
        result = outcome(way.runner(Thinker(), settings=way.limited(budget_tokens=tokens)).run([question]))
        assert result.usage.generated <= tokens


def test_a_spent_budget_of_time_asks_nothing(way: Planned) -> None:
    policy = Thinker()
    for result in way.runner(policy, settings=way.limited(budget_seconds=1e-9)).run(QUESTIONS[:3]):
        assert isinstance(result, Outcome), result
        assert (result.answer, result.stopped) == (None, "budget")
    assert policy.samples == 0


def test_the_steps_that_a_question_gives_are_kept(way: Planned) -> None:
    """Also if they state the answer already."""
    for question in QUESTIONS[:3]:
        chain = outcome(way.runner(Thinker(), search=quick()).run([question]))
        assert chain.answer is not None
        for given in range(1, len(chain.steps) + 1):
            begun = replace(question, history=chain.steps[:given])
            result = outcome(way.runner(Thinker()).run([begun]))
            assert result.steps[:given] == begun.history
            assert result.answer is not None


@pytest.mark.parametrize("score", [0.0, 0.5, 1.0])
def test_a_scorer_that_gives_every_step_the_same_score_leaves_an_answer(scored_way: Planned, score: float) -> None:
    for result in scored_way.runner(Thinker(), Scorer(lambda path: score)).run(QUESTIONS[:3]):
        assert isinstance(result, Outcome), result
        assert result.answer is not None


def test_steps_that_the_scorer_cannot_read_leave_an_answer(scored_way: Planned) -> None:
    def rejects(path: Path) -> float:
        if path.depth > 1 and by_digest(path) < 0.3:
            raise QuestionError("the step is too long for the PRM")
        return 0.5

    for result in scored_way.runner(Thinker(), Scorer(rejects)).run(QUESTIONS[:3]):
        assert isinstance(result, Outcome), result
        assert result.answer is not None


def test_a_scorer_that_is_away_fails_its_question_alone(scored_way: Planned) -> None:
    def away(path: Path) -> float:
        if path.question.id == "q1":
            raise ServerError("the PRM gives no reply")
        return 0.5

    first, second, third = scored_way.runner(Thinker(), Scorer(away)).run(QUESTIONS[:3])
    assert isinstance(second, Failure)
    assert isinstance(first, Outcome)
    assert isinstance(third, Outcome)


def test_a_policy_without_log_probabilities_is_enough(way: Planned) -> None:
    expected = timeless(way.runner(Thinker(likely=False), concurrency=1).run(QUESTIONS[:3]))
    for result in expected:
        assert isinstance(result, Outcome), result
        assert result.answer is not None
    chance = random.Random(0)
    slow = Thinker(likely=False, delay=lambda: chance.randrange(4))
    assert timeless(way.runner(slow).run(QUESTIONS[:3])) == expected
