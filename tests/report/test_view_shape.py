"""The first view of a page: the questions in the list, and a deep tree that fits or has a hint to scroll."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

from atomthink_plugin.searches.best_of_n import best_of_n
from tests.report.browser import PATIENCE, opened
from tests.report.pages import all_of, page_of, press, resize, shown, texts
from tests.report.runs import TASK, search_all, write_run
from tests.trees import Grove

PREAMBLE = "Please solve the problem step by step.\nPut your answer in one box.\n"
DEPTHS = (4, 14, 26)


def deep(depth: int) -> Grove:
    """One path of so many steps."""
    tree, scores, done = {}, {}, ""
    for k in range(1, depth + 1):
        end = " To sum up, the final answer is: 4." if k == depth else ""
        step = f"Step {k}: Take the road {k}.{end}"
        tree[done] = {step: 1.0}
        done = f"{done}\n\n{step}" if done else step
        scores[done] = 0.5
    return Grove(tree, scores, {done: "4"})


@pytest.fixture(scope="module")
def depths(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deep")
    outcomes = search_all(best_of_n(2), [deep(depth) for depth in DEPTHS], max_steps=30)
    run = write_run(folder, outcomes, ["4"] * len(DEPTHS), search={"name": "best_of_n", "n": 2})
    (samples,) = run.out.glob("*_samples_*.jsonl")
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    asked = [json.dumps(line | {"input": f"{PREAMBLE}Which way is {line['doc_id']}?"}) for line in lines]
    samples.write_text("\n".join(asked) + "\n")
    return page_of(folder, run)


@pytest.mark.slow
def test_the_list_shows_the_questions(browser: WebDriver, depths: Path) -> None:
    opened(browser, depths)
    assert texts(browser, ".row-text") == [f"Which way is {i}?" for i in range(len(DEPTHS))]
    assert texts(browser, ".asked .text") == [f"{PREAMBLE}Which way is 0?"]


@pytest.mark.slow
def test_the_page_shows_why_a_path_was_chosen(browser: WebDriver, depths: Path) -> None:
    opened(browser, depths)
    (why,) = texts(browser, ".why")
    assert all(part in why for part in ("best_of_n", "4", "0.50"))


@pytest.mark.slow
def test_a_deep_tree_fits_or_has_a_hint_to_scroll(browser: WebDriver, depths: Path) -> None:
    resize(browser, 1440)
    opened(browser, depths)
    for number, whole in enumerate((True, True, False)):
        shown(browser, number)
        WebDriverWait(browser, PATIENCE).until(lambda it, whole=whole: _all_in_view(it) == whole)
        assert all_of(browser, ".hint")[0].is_displayed() != whole
        assert len(all_of(browser, ".map.cut-off")) == (not whole)
        press(browser, "j")
    assert str(DEPTHS[-1]) in texts(browser, ".hint")[0]
    browser.execute_script("const it = document.querySelector('.map'); it.scrollLeft = it.scrollWidth")
    WebDriverWait(browser, PATIENCE).until(lambda it: _all_in_view(it) and not all_of(it, ".map.cut-off"))


@pytest.mark.slow
def test_a_deep_outline_leaves_space_for_its_text(browser: WebDriver, depths: Path) -> None:
    for width in (1440, 390):
        resize(browser, width)
        opened(browser, depths, f"{TASK}%2F{len(DEPTHS) - 1}%2F0")
        script = (
            "const it = document.getElementById('question');"
            "const text = [...document.querySelectorAll('.outline .written')].at(-1);"
            "return [it.scrollWidth - it.clientWidth, text.getBoundingClientRect().width]"
        )
        beyond, room = browser.execute_script(script)
        assert beyond <= 0
        assert room > 120
    resize(browser, 1440)


def _all_in_view(browser: WebDriver) -> bool:
    """Whether the last step is visible in the map at a readable size."""
    script = (
        "const map = document.querySelector('.map').getBoundingClientRect();"
        "const last = [...document.querySelectorAll('.map .node rect')].at(-1).getBoundingClientRect();"
        "return last.right <= map.right && last.width > 30"
    )
    return bool(browser.execute_script(script))
