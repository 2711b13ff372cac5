"""The table of all methods: its rows, its results file, and its figure."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from atomthink_plugin.plugins.registry import registry
from benchmarks.methods import BASELINE, METHODS, known, main, missing
from benchmarks.tables.method_chart import FAMILIES, methods_svg
from benchmarks.tables.methods import CLAIMS
from benchmarks.tables.results import RESULTS, ROOT

NAMES = [method.name for method in METHODS]


def test_every_search_and_every_format_has_a_row() -> None:
    searches = {method.arguments.get("search") for method in METHODS}
    assert searches - {None} == registry().searches.keys()
    formats = {method.arguments.get("format") for method in METHODS}
    formats |= {registry().searches[search].format for search in searches - {None}}  # type: ignore[index]
    assert formats - {None} == registry().formats.keys()


def test_rows_have_names_of_their_own_and_families_that_the_figure_knows() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert {method.family for method in METHODS} == FAMILIES.keys()


def test_the_claims_compare_rows_of_the_table() -> None:
    assert {name for first, second, _ in CLAIMS for name in (first, second)} <= set(NAMES)


def test_the_results_file_has_all_rows_with_their_present_arguments() -> None:
    assert missing(known(ROOT / RESULTS / "methods.json"), METHODS) == []


def test_the_figure_has_a_mark_and_a_label_inside_it_for_each_row() -> None:
    figure = ElementTree.fromstring(methods_svg())
    svg = "{http://www.w3.org/2000/svg}"
    marks = [one for one in figure.iter(f"{svg}circle") if one.find(f"{svg}title") is not None]
    labels = [one for one in figure.iter(f"{svg}text") if one.text in NAMES]
    assert len(marks) == len(labels) == len(known(ROOT / RESULTS / "methods.json"))
    width, height = float(figure.attrib["width"]), float(figure.attrib["height"])
    assert all(0 < float(one.attrib["x"]) < width and 0 < float(one.attrib["y"]) < height for one in labels)


@pytest.mark.slow
def test_a_further_run_measures_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rows.json"

    def run(*typed: str) -> dict[str, Any]:
        monkeypatch.setattr("sys.argv", ["methods", "--questions", "4", "--json", str(file), *typed])
        main()
        return known(file)

    monkeypatch.setattr("benchmarks.methods.METHODS", [one for one in METHODS if one.name in (BASELINE, "direct")])
    first = run("--only", BASELINE)
    assert list(first) == [BASELINE]
    record = json.loads(file.read_text())
    record["rows"][0]["date"] = "2020-01-01"
    file.write_text(json.dumps(record))
    second = run()
    assert list(second) == [BASELINE, "direct"]
    assert second[BASELINE]["date"] == "2020-01-01"
    assert second["direct"]["questions"] == len(second["direct"]["right"]) == 4
    assert run("--only", BASELINE)[BASELINE]["date"] == first[BASELINE]["date"]
