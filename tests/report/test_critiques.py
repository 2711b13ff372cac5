"""Reports about a run with a generative PRM: its tokens are part of the costs, and its critiques are at their steps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path as FilePath

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

from atomthink_plugin.api import Outcome
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.report.candidates import SampledQuestion, sampled_questions
from atomthink_plugin.report.outcome_html import outcome_html
from atomthink_plugin.report.paired_runs import tokens_of
from atomthink_plugin.report.replay import PASS, SelectionMethod
from atomthink_plugin.report.run_reader import read
from atomthink_plugin.report.scaling_curve import halves, tokens_at
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.searches.best_of_n import best_of_n
from atomthink_plugin.testing import ScriptedPolicy
from tests.report.browser import opened
from tests.report.pages import page_of, texts
from tests.report.runs import Written, asked, write_run
from tests.runtime.test_critics import TREE, critic, stepwise
from tests.trees import question, settings

JUDGED = SelectionMethod("best_of_n", "mean")


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    policy, scorer = ScriptedPolicy(TREE), stepwise(critic())
    runner = Runner(policy, scorer, Continue(), best_of_n(4), settings(), trees=True)
    return [one for one in runner.run([question(asked(0)), question(asked(1))]) if isinstance(one, Outcome)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, outcomes: list[Outcome]) -> Written:
    search = {"name": "best_of_n", "n": 4}
    return write_run(tmp_path_factory.mktemp("judged"), outcomes, ["4", "4"], search=search)


def test_tokens_of_a_question_include_those_of_critiques(run: Written, outcomes: list[Outcome]) -> None:
    found = read(run.out)
    assert [one.tokens for one in found.questions] == [one.usage.generated + one.usage.judged for one in outcomes]
    assert run.journal is not None
    shutil.move(run.journal, run.journal.with_name("elsewhere"))
    try:
        alone = read(run.out)  # the samples file has both counts
        assert tokens_of(alone.questions) == tokens_of(found.questions)
    finally:
        shutil.move(run.journal.with_name("elsewhere"), run.journal)
    columns = [json.loads(line)["token_counts"][0] for line in next(run.out.glob("*.jsonl")).read_text().splitlines()]
    assert [one["judged_tokens"] for one in columns] == [one.usage.judged for one in outcomes]


def test_a_curve_counts_critiques_only_for_methods_that_use_scores(run: Written, outcomes: list[Outcome]) -> None:
    questions, _ = sampled_questions(read(run.out))
    for one, outcome in zip(questions, outcomes, strict=True):
        assert one.judged == outcome.usage.judged
        assert tokens_at(one, 4, PASS) == outcome.usage.generated
        assert tokens_at(one, 4, JUDGED) == pytest.approx(outcome.usage.generated + outcome.usage.judged)
        expected = sum(_judged_alone(one, at, outcome) for at in range(4)) / 4
        assert tokens_at(one, 1, JUDGED) == pytest.approx(outcome.usage.generated / 4 + expected)
        first, second = halves(one)
        assert first.judged + second.judged >= outcome.usage.judged  # a step of both halves is judged in both


def _judged_alone(one: SampledQuestion, at: int, outcome: Outcome) -> float:
    """The tokens of critiques that candidate `at` would need alone: two critiques of five words and two verdicts."""
    return 12.0 * len(one.candidates[at].nodes)


def test_an_outcome_in_a_notebook_shows_critiques_and_their_cost(outcomes: list[Outcome]) -> None:
    shown = outcome_html(outcomes[0], question(asked(0)), {"name": "best_of_n", "n": 4})
    assert f"{outcomes[0].usage.judged:,}" in shown
    assert "in four words" in shown


@pytest.mark.slow
def test_a_critique_is_below_its_step_on_the_page(
    browser: WebDriver, run: Written, outcomes: list[Outcome], tmp_path: FilePath
) -> None:
    opened(browser, page_of(tmp_path, run))
    facts = dict(zip(texts(browser, ".fact dt"), texts(browser, ".fact dd"), strict=True))
    used = outcomes[0].usage
    assert (facts["tokens"], facts["of them critiques"]) == (str(used.tokens), str(used.judged))
    assert texts(browser, ".chain .critique summary") == ["critique of this step"] * len(outcomes[0].steps)
    browser.find_element(By.CSS_SELECTOR, ".chain .critique summary").click()
    shown = browser.find_element(By.CSS_SELECTOR, ".chain .critique[open]").text
    assert "in four words" in shown
    assert "verdict 1 of 2: 0.900" in shown
