"""A browser and pages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from selenium.webdriver.remote.webdriver import WebDriver

from atomthink_plugin.api import Failure, Outcome
from atomthink_plugin.searches.beam import beam
from atomthink_plugin.searches.best_of_n import best_of_n
from tests.report.browser import chromium
from tests.report.pages import ANSWERS, BEAM, FAILED, TARGETS, grove, levels, page_of, red
from tests.report.runs import Written, search_all, write_run


@pytest.fixture(scope="session")
def browser() -> Iterator[WebDriver]:
    with chromium() as driver:
        yield driver


@pytest.fixture(scope="session")
def searched() -> list[Outcome | Failure]:
    """Beam searches, one of which spent its budget, and a question that failed."""
    outcomes = search_all(beam(2, 3), [grove(answer) for answer in ANSWERS])
    return [*outcomes[:-1], replace(outcomes[-1], stopped="budget"), FAILED]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, searched: list[Outcome | Failure]) -> Written:
    return write_run(tmp_path_factory.mktemp("run"), searched, TARGETS, search=BEAM, groups=levels, images=red)


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory, run: Written) -> Path:
    return page_of(tmp_path_factory.mktemp("page"), run)


@pytest.fixture(scope="session")
def two(tmp_path_factory: pytest.TempPathFactory, run: Written) -> Path:
    """A run of another search with the same questions, except two."""
    outcomes = search_all(best_of_n(4), [grove(answer) for answer in ("4", "4", "1", "4", "7", "4")])
    other = write_run(tmp_path_factory.mktemp("other"), outcomes, TARGETS, search={"name": "best_of_n", "n": 4})
    return page_of(tmp_path_factory.mktemp("two"), run, other)
