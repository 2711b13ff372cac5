"""Writes the tables and figures of `docs/benchmarks` from the results files; the text around them is written by hand.

    python -m benchmarks.pages          # after a benchmark has written a new results file
    python -m benchmarks.pages --check  # exits with 1 if a page or a figure is not up to date

A page has a table between `<!-- table: NAME -->` and `<!-- end -->`. Below each table stand the command, the machine,
the date and the results file.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.tables import accuracy, cost, families, methods, quality, reports
from benchmarks.tables.method_chart import methods_svg
from benchmarks.tables.results import BENCHMARKS, ROOT, grid, load

PAGES = ROOT / "docs" / "benchmarks"
BLOCK = re.compile(r"(<!-- table: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def overview() -> str:
    rows = []
    for name, one in BENCHMARKS.items():
        record = load(name)
        where = record if "machine" in record else next(iter(record.values()))
        machine = "one NVIDIA H200" if name == "gpu_tiny" else where["machine"]
        question = f"[{one.question}]({one.page})"
        rows.append((question, f"`{one.script}`", f"`{one.result}`", machine, where["date"]))
    return grid(("question", "script", "results file", "machine", "date"), rows, left=5)


TABLES: dict[str, Callable[[], str]] = {
    make.__name__: make
    for make in (
        overview,
        accuracy.ways_of_thinking,
        accuracy.other_models,
        accuracy.paired_rows,
        accuracy.by_number,
        methods.methods,
        methods.method_claims,
        cost.search_cost,
        cost.engine_change,
        cost.prefix_memory,
        cost.gpu_search_cost,
        cost.prm_routes,
        cost.vllm_throughput,
        cost.scale_out,
        cost.engine_overhead,
        cost.journal_cost,
        families.families_summary,
        families.families,
        quality.verdict_agreement,
        quality.label_quality,
        quality.omega_savings,
        quality.prm_quality,
        quality.gpu_training,
        quality.atomic_capability,
        quality.capability_order,
        reports.comparison,
        reports.scaling,
        reports.report_size,
        reports.score_rollouts,
    )
}
"""The tables of the pages, by the names of their functions."""


def filled(page: str) -> str:
    """Returns a page with all its tables as the results files have them."""
    return BLOCK.sub(lambda block: f"{block[1]}\n{TABLES[block[2]]()}\n{block[4]}", page)


FIGURES: dict[str, Callable[[], str]] = {"methods.svg": methods_svg}
"""The figures that are drawn from the results files, by their files."""


def made() -> dict[Path, str]:
    """Returns the content that all pages and figures should have."""
    pages = {page: filled(page.read_text()) for page in sorted(PAGES.glob("*.md"))}
    return pages | {PAGES / name: draw() for name, draw in FIGURES.items()}


def stale() -> list[Path]:
    """Returns the pages and figures that differ from the results files."""
    return [file for file, content in made().items() if not file.exists() or file.read_text() != content]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is not up to date")
    check = parser.parse_args().check
    files = stale()
    for file in files:
        print(f"{file.relative_to(ROOT)}: {'not up to date' if check else 'written'}")
        if not check:
            file.write_text(made()[file])
    if check and files:
        sys.exit("Run `python -m benchmarks.pages`")


if __name__ == "__main__":
    main()
