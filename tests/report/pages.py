"""Runs with known trees, their pages, and user actions on a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from atomthink_plugin.answers import equivalent
from atomthink_plugin.api import Failure, Outcome, Usage
from atomthink_plugin.report.page_html import write_page
from atomthink_plugin.report.run_reader import read
from tests.report.browser import PATIENCE
from tests.report.runs import TASK, Written
from tests.trees import Grove

BEAM = {"name": "beam", "beams": 2, "candidates": 3}
ANSWERS = ("4", "5", "5", "4", "7")
TARGETS = ("4", "4", "5", "5", "4", "4")
FAILED = Failure("image 1 is truncated", Usage())


def grove(answer: str) -> Grove:
    """A tree in which the path with the best scores has the answer `answer`, and the others have 1."""
    ways = {"Step 1: Take the road a.": 0.5, "Step 1: Take the road b.": 0.5}
    tree, scores, answers = {"": ways}, {}, {}
    for way, score in zip(ways, (0.9, 0.25), strict=True):
        tree[way] = {}
        scores[way] = score
        for end, stated in (("0", answer if way.endswith("a.") else "1"), ("1", "1")):
            step = f"Step 2: By way of {end}. To sum up, the final answer is: {stated}."
            tree[way][step] = 0.5
            scores[f"{way}\n\n{step}"] = score * (0.9 if end == "0" else 0.4)
            answers[f"{way}\n\n{step}"] = stated
    return Grove(tree, scores, answers)


def red(doc_id: int) -> Sequence[Image.Image]:
    return [Image.new("RGB", (40 + doc_id, 30), "red")]


def levels(doc_id: int) -> dict[str, list[str]]:
    return {"level": [str(doc_id % 2)], "subject": ["counting" if doc_id < 2 else "measuring"]}


def page_of(folder: Path, *runs: Written) -> Path:
    file = folder / "view.html"
    with file.open("w", encoding="utf-8") as page:
        write_page(page, [read(run.out) for run in runs])
    return file


def rights(outcomes: Sequence[Outcome | Failure]) -> list[bool]:
    """Which questions are right, computed without code of the page."""
    answers = [None if isinstance(outcome, Failure) else outcome.answer for outcome in outcomes]
    return [answer is not None and equivalent(answer, target) for answer, target in zip(answers, TARGETS, strict=True)]


def all_of(browser: WebDriver, selector: str) -> list[WebElement]:
    return browser.find_elements(By.CSS_SELECTOR, selector)


def texts(browser: WebDriver, selector: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map((it) => it.textContent)"
    found: list[str] = browser.execute_script(script, selector)
    return found


def until(browser: WebDriver, selector: str, wanted: Any) -> None:
    """Waits until the selected elements have the expected texts."""
    WebDriverWait(browser, PATIENCE).until(lambda it: texts(it, selector) == wanted)


def listed(browser: WebDriver) -> list[int]:
    # In one script, because the page may redraw its rows between two requests.
    script = "return [...document.querySelectorAll('.row')].map((row) => Number(row.dataset.number))"
    found: list[int] = browser.execute_script(script)
    return found


def press(browser: WebDriver, *keys: str) -> None:
    for key in keys:
        browser.find_element(By.TAG_NAME, "body").send_keys(key)


def shown(browser: WebDriver, doc_id: int) -> None:
    """Waits until a question is shown."""
    until(browser, ".question-head h2", [f"{TASK} question {doc_id}"])


def resize(browser: WebDriver, width: int) -> None:
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)  # type: ignore[attr-defined]


def errors(browser: WebDriver) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser")]  # type: ignore[no-untyped-call]
