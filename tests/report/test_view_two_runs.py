"""Two runs on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

from tests.report.browser import opened
from tests.report.pages import TARGETS, all_of, listed, page_of, press, resize, shown, texts, until
from tests.report.runs import Written, write_run


@pytest.mark.slow
def test_two_runs_are_shown_side_by_side(browser: WebDriver, two: Path) -> None:
    opened(browser, two)
    resize(browser, 1440)
    panels = all_of(browser, ".answered")
    assert len(panels) == 2
    assert [panel.find_elements(By.CSS_SELECTOR, ".map svg") != [] for panel in panels] == [True, True]
    assert panels[0].rect["y"] == panels[1].rect["y"]
    assert panels[0].rect["x"] + panels[0].rect["width"] <= panels[1].rect["x"]
    resize(browser, 900)
    assert panels[0].rect["x"] == panels[1].rect["x"]
    assert panels[0].rect["y"] < panels[1].rect["y"]
    resize(browser, 1440)


@pytest.mark.slow
def test_the_next_difference_is_the_next_question_that_one_run_won(browser: WebDriver, two: Path) -> None:
    opened(browser, two)
    first, second = (["✓" in mark for mark in texts(browser, f".row .mark:nth-child({n})")] for n in (1, 2))
    differing = [i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a != b]
    assert len(differing) >= 2
    assert 0 not in differing
    for doc_id in differing:
        press(browser, "d")
        shown(browser, doc_id)
    press(browser, "D")
    shown(browser, differing[-2])
    for style, wanted in (("a", [i for i in differing if first[i]]), ("b", [i for i in differing if second[i]])):
        (chip,) = all_of(browser, f".chip.{style}")
        chip.click()
        until(browser, "#count", [f"{len(wanted)} of 6 questions"])
        assert listed(browser) == wanted
        chip.click()


@pytest.mark.slow
def test_runs_of_other_questions_or_other_scorers_are_shown_with_a_note(
    browser: WebDriver, run: Written, tmp_path: Path, searched: Any
) -> None:
    other = write_run(tmp_path, searched[:4], TARGETS[:4], scorer="strict 2")
    opened(browser, page_of(tmp_path, run, other))
    notes = texts(browser, ".about > .missing li")
    assert any(note.startswith("2 of 6 questions") for note in notes)
    assert any("acc of sums 1.0, strict 2" in note for note in notes)
    assert texts(browser, ".chip.alone b") == ["2"]


@pytest.mark.slow
def test_equal_indices_of_other_data_cause_a_note(browser: WebDriver, tmp_path: Path, searched: Any) -> None:
    first = write_run(tmp_path / "a", searched, TARGETS)
    second = write_run(tmp_path / "b", searched, ["9", *TARGETS[1:]])
    opened(browser, page_of(tmp_path, first, second))
    assert any(note.startswith("1 questions") for note in texts(browser, ".missing li"))
