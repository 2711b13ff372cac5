"""A page is safe for any text of a model, and shows the available data if some is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

from atomthink_plugin.api import Failure, Node, Outcome, Usage
from atomthink_plugin.report import page_images as pictures
from tests.report.browser import PATIENCE, opened
from tests.report.pages import (
    BEAM,
    TARGETS,
    all_of,
    errors,
    page_of,
    press,
    resize,
    shown,
    texts,
    until,
)
from tests.report.runs import write_run

HOSTILE = (
    "<script>document.body.dataset.harm = 1</script>",
    "</script><img src=x onerror='document.body.dataset.harm = 1'>",
    "<!-- <script> ]]> &lt;b&gt; {{ 7 * 7 }} ${7 * 7} \\u003cb\\u003e",
    r"$\frac{1}{2}$ and \begin{align} x &= \sqrt[3]{2} \\ \end{align}",
    "שלום, the road is \u202eturned round\u202c, مرحبا",
    "a line\u2028and a paragraph\u2029and a\u0000nought\u0007",
    "x" * 100_000,
)


@pytest.mark.slow
def test_what_models_write_is_data(browser: WebDriver, tmp_path: Path) -> None:
    steps = tuple(f"Step {k}: {text}" for k, text in enumerate(HOSTILE, 1))
    answers = (*[None] * (len(steps) - 1), steps[-1])
    pairs = enumerate(zip(steps, answers, strict=True), 1)
    nodes = [Node(str(k), str(k - 1), step, 0.5, -1.0, 9, 1, answer) for k, (step, answer) in pairs]
    reply = "\n\n".join(steps)
    nodes.append(Node("odd", "0", "<b>Step</b>", None, None, 1, 1, None, "<i>not</i> a step"))
    outcome = Outcome(reply, steps[-1], steps, (0.5,) * len(steps), 0.5, "final", Usage(), tuple(nodes))
    failure = Failure("<script>document.body.dataset.harm = 1</script>", Usage())
    extra = {"rule": HOSTILE[1], "extracted": HOSTILE[0], "input": "\n".join(HOSTILE), "scorer": HOSTILE[1]}
    groups = {HOSTILE[0]: [HOSTILE[1]]}
    run = write_run(tmp_path, [outcome, failure], [HOSTILE[1], "4"], extra=extra, groups=lambda doc_id: groups)
    opened(browser, page_of(tmp_path, run))
    resize(browser, 1440)
    assert len(all_of(browser, "script:not([type])")) == 2
    shown_steps = texts(browser, ".outline .candidate.chosen > details > summary .written")
    plain = [text for text in steps[:-1] if "\\frac" not in text]  # that one is a formula, see test_latex.py
    assert [text for text, step in zip(shown_steps, steps[:-1], strict=True) if step in plain] == plain
    (long,) = [text for text in texts(browser, ".outline .written") if "xxx" in text]
    assert len(long) < 2000
    browser.execute_script("document.querySelector('.outline .more').click()")
    assert steps[-1] in texts(browser, ".outline .written")
    for width in (1440, 390):
        resize(browser, width)
        scroll, room = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert scroll <= room
        article = "const it = document.getElementById('question'); return it.scrollWidth - it.clientWidth"
        assert browser.execute_script(article) <= 0
    resize(browser, 1440)
    press(browser, "j")
    until(browser, ".failure .written", [failure.reason])
    assert browser.execute_script("return document.body.dataset.harm") is None
    assert errors(browser) == []


@pytest.mark.slow
def test_nothing_is_fetched_and_nothing_else_can_run(browser: WebDriver, page: Path) -> None:
    opened(browser, page)
    names = browser.execute_script("return performance.getEntriesByType('resource').map((it) => it.name)")
    assert [name for name in names if not name.startswith("data:")] == []
    refused = browser.execute_async_script(
        "const done = arguments[0]; const it = document.createElement('div');"
        'it.innerHTML = \'<img src="data:," onerror="document.body.dataset.harm = 1">\'; document.body.append(it);'
        "fetch('data:text/plain,x').then(() => 'fetched', () => 'refused')"
        ".then((said) => setTimeout(() => done(said), 200))"
    )
    assert refused == "refused"
    assert browser.execute_script("return document.body.dataset.harm") is None
    assert len(errors(browser)) >= 2  # the browser logs what it refused


@pytest.mark.slow
def test_a_page_of_a_damaged_journal_shows_the_readable_part(browser: WebDriver, tmp_path: Path, searched: Any) -> None:
    run = write_run(tmp_path, searched, TARGETS, search=BEAM)
    assert run.journal is not None
    file = run.journal / "rank0.jsonl"
    whole = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(whole[:3]) + whole[3][:200])
    opened(browser, page_of(tmp_path, run))
    notes = texts(browser, ".missing li")
    assert any(note.startswith("1 lines") for note in notes)
    assert any(note.startswith("3 of 6 questions") for note in notes)
    assert len(all_of(browser, ".map svg")) == 1
    press(browser, "j", "j", "j")
    shown(browser, 3)
    assert all_of(browser, ".map svg") == []
    assert texts(browser, ".reply .written") == [searched[3].text]


@pytest.mark.slow
def test_an_incomplete_page_shows_its_readable_part(browser: WebDriver, page: Path, tmp_path: Path) -> None:
    text = page.read_text()
    cut = tmp_path / "cut.html"
    cut.write_text(text[: text.index('id="piece-0"') + 300])
    browser.get(cut.as_uri())
    until(browser, "#count", ["6 questions"])
    WebDriverWait(browser, PATIENCE).until(lambda it: texts(it, "#question .failure"))
    browser.find_element(By.ID, "search").send_keys("road")
    WebDriverWait(browser, PATIENCE).until(lambda it: "questions" not in texts(it, "#count")[0])
    cut.write_text(text[: text.index('id="index"') + 100])
    browser.get(cut.as_uri())
    assert len(all_of(browser, "#question .wait")) == 1


def test_an_image_is_as_large_as_its_share_allows() -> None:
    chance = np.random.default_rng(1)
    photo = Image.fromarray(chance.integers(0, 256, (600, 800, 3), np.uint8))
    figure = Image.new("RGB", (800, 600), "white")
    for side in (100, 200, 300):
        figure.paste((side % 256, 0, 0), (side, side, side + 50, side + 50))
    room = 12_000
    alone, rung = pictures.thumbnail(figure, room)
    small, last = pictures.thumbnail(photo, room)
    assert (rung, last > 2) == (0, True)
    assert len(small) <= room
    assert pictures.thumbnail(figure, room, last) == (alone, 0)
    assert pictures.thumbnail(photo, room, last) == (small, last)
