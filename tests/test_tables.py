"""No table of any command cuts a heading or a number, or folds a cell, in a terminal of 80 columns."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from atomthink_plugin.cli import main
from atomthink_plugin.report import compare, scale
from atomthink_plugin.searches.best_of_n import best_of_n
from atomthink_plugin.step_metrics.measure import measure
from atomthink_plugin.tables import Grid, print_facts, print_grid
from atomthink_plugin.tasks.capability import record_set
from atomthink_plugin.tasks.capability import report as capability_report
from atomthink_plugin.tasks.capability.behaviours import Behaviour
from atomthink_plugin.tasks.capability.estimates import Capability, RateEstimate
from atomthink_plugin.tasks.capability.labellers import AbilityLabel
from atomthink_plugin.tasks.demo import comparison
from atomthink_plugin.training.evaluate.report import tables as prm_tables
from atomthink_plugin.training.label import run as label_run
from atomthink_plugin.training.label.rollouts import RolloutCost
from tests.report.pages import grove
from tests.report.runs import search_all, write_run
from tests.step_metrics.ten_solutions import TEN

WIDTH = 80


def on_terminal(grid: Grid, width: int = WIDTH) -> list[str]:
    """What a terminal of this width shows, without colours."""
    file = StringIO()
    print_grid(grid, Console(file=file, force_terminal=True, width=width))
    return re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue()).splitlines()


def in_pipe(grid: Grid) -> list[str]:
    file = StringIO()
    print_grid(grid, Console(file=file, width=WIDTH))
    return file.getvalue().splitlines()


def check(grid: Grid) -> None:
    lines = on_terminal(grid)
    assert max(map(cell_len, lines)) <= WIDTH
    body = "\n".join(grid.lines(WIDTH))
    words = set(body.split())
    assert all(word in words for heading in grid.headings[1:] for word in heading.split())
    for row in grid.cells:
        for i, cell in enumerate(row):
            assert i in grid.elastic or cell in body
    plain = in_pipe(grid)
    assert plain[0] == grid.title
    assert not set("│┃─━┏\x1b") & set("".join(plain))
    for row in grid.cells:
        assert any(re.split(r" {2,}", line.strip()) == [cell.strip() for cell in row if cell] for line in plain), row


def runs(folder: Path, count: int) -> list[Path]:
    """Runs of 44 questions with long categories, each with a long name."""
    found = []
    for number in range(count):
        outcomes = search_all(best_of_n(16), [grove("4" if i % (number + 2) else "5") for i in range(44)])
        groups = lambda doc_id: {"calculations": [f"{doc_id % 2 + 1} of the longest kind"]}  # noqa: E731
        name = folder / f"{number}"
        run = write_run(name, outcomes, ["4"] * 44, {"name": "best_of_n", "n": 16, "aggregate": "mean"}, groups)
        found.append(run.out.rename(run.out.with_name(f"best_of_n_16_of_the_larger_model_{number}")))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_compare(tmp_path: Path, count: int) -> None:
    for grid in compare.grids(*compare.compare(runs(tmp_path, count), [], False, False)):
        check(grid)


def test_scale(tmp_path: Path) -> None:
    grids = scale.grids(scale.scaling(runs(tmp_path, 1)[0], None))
    assert len(grids) > 1
    for grid in grids:
        check(grid)


def test_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (run,) = runs(tmp_path, 1)
    found: list[Grid] = []
    monkeypatch.setattr("atomthink_plugin.tasks.step_report.print_grid", found.append)
    assert main(["steps", str(run)]) == 0
    assert found
    for grid in found:
        check(grid)


def test_demo() -> None:
    modes = ("quick", "slow:best_of_n", "slow:a_search_of_a_plugin")
    check(
        comparison.comparison_table(
            [comparison.ModeResult(mode, (True,) * 200, 17, 12345.6, 1234.5, 12345.0) for mode in modes]
        )
    )


def test_atoms_evaluate() -> None:
    sure = RateEstimate(0.95, 0.9, 1.0)
    names = [
        ("Knowledge Introduction", "Mathematical Operations and Reasoning"),
        ("Mathematical Operations and Reasoning", ""),
    ]
    rows = tuple(Capability(*name, 123_456, 12_345, sure, sure, RateEstimate(-0.1, -1.0, 1.0)) for name in names)
    report = capability_report.CapabilityReport(10, 5, 0, (), 1.0, rows)
    check(capability_report.capability_table(report, "Atomic capability of atomthink_tiny, 12 chains"))


def test_atoms_build() -> None:
    text = "Compute the sum of the two sides that were read before, and divide it by the third of them."
    behaviours = [Behaviour((text,), (text,), 123 + i) for i in range(3)]
    labels = [AbilityLabel(text, "Knowledge Introduction") for _ in behaviours]
    check(record_set.behaviour_table(behaviours, labels))


@pytest.mark.parametrize("prmbench", [False, True])
def test_prm_eval(prmbench: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atomthink_plugin.step_metrics.bootstrap.RESAMPLES", 10)
    grids = list(prm_tables(measure(TEN, prmbench), "org/a-set-with-a-long-name/test, threshold 0.5"))
    assert len(grids) == 4
    for grid in grids:
        check(grid)


def test_label() -> None:
    answers = {"the right": 123_456, "a wrong": 123_456, "no": 123_456}
    steps = {"right": 1_234_567, "wrong": 1_234_567, "unknown": 1_234_567}
    cost = RolloutCost()
    summary = label_run.LabelSummary("monte_carlo", 8, 1, 1, 1, 1, 1, 1, 1, answers, 1, steps, cost, cost, 12345.0)
    check(label_run.table(summary))


cell = st.text("ab1界", min_size=1, max_size=15)


@settings(max_examples=40)
@given(data=st.data(), columns=st.integers(2, 9), rows=st.integers(0, 6))
def test_any_table_fits(data: Any, columns: int, rows: int) -> None:
    headings = data.draw(st.tuples(*[st.lists(cell, min_size=1, max_size=3).map(" ".join)] * columns))
    cells = data.draw(st.lists(st.tuples(*[cell] * columns), min_size=rows, max_size=rows))
    grid = Grid("a title", headings, cells)
    lines = grid.lines(WIDTH)
    assert all(cell_len(line) <= WIDTH for line in lines)
    words = set(" ".join(lines).split())
    assert {word for heading in headings[1:] for word in heading.split()} <= words
    assert {one for row in cells for one in row} <= words


def test_rows_become_columns_where_that_is_narrower() -> None:
    grid = Grid(
        "", ("run", *(f"a long heading {i}" for i in range(9))), [("first", *"123456789"), ("second", *"abcdefghi")]
    )
    lines = grid.lines(40)
    assert lines[0].split() == ["run", "first", "second"]
    assert lines[2].split() == ["a", "long", "heading", "0", "1", "a"]
    assert len(lines) == 2 + 9


def test_many_columns_are_divided_into_blocks() -> None:
    headings = ("run", *(f"heading{i}" for i in range(8)))
    lines = Grid("", headings, [(f"run{j}", *(f"{i}{j}" for i in range(8))) for j in range(8)]).lines(40)
    assert [line.split()[0] for line in lines if line].count("run5") == 3
    assert lines[0].split() == ["run", "heading0", "heading1", "heading2"]


@pytest.mark.slow
def test_notes_and_titles_are_not_wrapped_in_a_pipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = runs(tmp_path, 1)[0]
    assert main(["scale", str(run)]) == 0
    printed = capsys.readouterr().out.splitlines()
    found = scale.scaling(run, None)
    assert {*found.notes, *(grid.title for grid in scale.grids(found))} <= set(printed)


FACTS = [
    ("hub cache", "a folder with a long name: 3 models, 2 data sets, writable, 50 GB free, and more words"),
    ("", "x"),
]


def test_facts_are_wrapped_beside_their_names_on_a_terminal_alone() -> None:
    for terminal in (True, False):
        file = StringIO()
        print_facts("Here", FACTS, Console(file=file, force_terminal=terminal, width=40, color_system=None))
        lines = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue()).splitlines()
        assert lines[0] == "Here"
        column = lines[1].index("a folder")
        wrapped = [line for line in lines[1:] if line]
        assert [line[:column].strip() for line in wrapped] == ["hub cache", *[""] * (len(wrapped) - 1)]
        assert " ".join(line[column:] for line in wrapped) == " ".join(text for _, text in FACTS)
        assert max(map(cell_len, lines)) <= 40 or not terminal
        assert len(wrapped) == (len(FACTS) if not terminal else 5)


def test_a_terminal_that_is_narrower_than_the_names_still_shows_the_facts() -> None:
    file = StringIO()
    print_facts("Here", FACTS, Console(file=file, force_terminal=True, width=8, color_system=None))
    assert re.findall(r"\w+", FACTS[0][1])[0] in file.getvalue()
