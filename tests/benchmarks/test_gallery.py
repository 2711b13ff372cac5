"""The files of the gallery in the documentation are complete, small, and open in a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.remote.webdriver import WebDriver

from benchmarks.gallery import GALLERY, SCHEMES, comparison, filled
from tests.report.browser import chromium, opened
from tests.report.pages import errors, resize

DOCS = GALLERY.parent
PAGES = sorted(GALLERY.glob("*.html"))


@pytest.fixture(scope="module")
def browser() -> Iterator[WebDriver]:
    with chromium() as driver:
        yield driver


def test_every_file_is_shown_and_small() -> None:
    files = {file.name: file.stat().st_size for file in GALLERY.iterdir() if file.suffix != ".md"}
    pages = "\n".join(file.read_text(encoding="utf-8") for file in (*DOCS.rglob("*.md"), DOCS.parent / "README.md"))
    assert [name for name in files if name not in pages] == []
    assert len(PAGES) == 4
    for name, size in files.items():
        assert size < (1_500_000 if name.endswith(".html") else 200_000), name
    for file in GALLERY.glob("*-light.webp"):
        assert {file.with_name(file.name.replace("-light", f"-{scheme}")).name for scheme in SCHEMES} <= files.keys()


def test_the_comparison_is_that_of_the_results_file() -> None:
    page = (GALLERY / "index.md").read_text(encoding="utf-8")
    assert filled(page, {"comparison": comparison}) == page


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_opens_on_a_desktop_and_on_a_phone(browser: WebDriver, page: Path) -> None:
    for width in (1400, 390):
        resize(browser, width)
        if page.stem == "capability":
            browser.get(page.as_uri())
        else:
            opened(browser, page)
        scroll, room = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert scroll <= room
        text = browser.execute_script(
            "return ['header', 'main', 'h1'].map((it) => document.querySelector(it)?.textContent)"
        )
        assert "atomthink_tiny" in str(text)
        assert not re.search(r"(?<!\w)/(?:root|home|tmp|work|opt)/", str(text))  # no paths of the machine
    assert errors(browser) == []
