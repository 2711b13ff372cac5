"""The pages of the benchmarks have the numbers of the results files."""

from __future__ import annotations

import re

import pytest

from benchmarks import pages
from benchmarks.tables.results import BENCHMARKS, RESULTS, ROOT, load


def test_no_page_is_stale() -> None:
    """`python -m benchmarks.pages` writes the pages after a measurement."""
    assert pages.stale() == []


def test_a_changed_number_makes_a_page_stale() -> None:
    page = (pages.PAGES / "accuracy.md").read_text()
    changed = page.replace("| 33.7 |", "| 34.7 |", 1)
    assert changed != page
    assert pages.filled(changed) == page


def test_every_table_is_on_one_page() -> None:
    shown = [name for page in pages.PAGES.glob("*.md") for _, name, *_ in pages.BLOCK.findall(page.read_text())]
    assert sorted(shown) == sorted(pages.TABLES)


def test_every_results_file_belongs_to_a_benchmark() -> None:
    assert {file.name for file in (ROOT / RESULTS).glob("*.json")} == {one.result for one in BENCHMARKS.values()}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_has_a_script_and_its_results_a_machine_and_a_date(name: str) -> None:
    assert (ROOT / BENCHMARKS[name].script).is_file()
    record = load(name)
    for where in [record] if "machine" in record else record.values():
        assert where["machine"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", where["date"])
