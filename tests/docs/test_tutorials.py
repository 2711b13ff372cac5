"""Every tutorial works from top to bottom, as its reader types it, with the embedded models.

lmms-eval exits with 0 after most failures, so the files that the commands name are read afterwards.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.docs.fences import ROOT, arguments, command_lines, fences
from tests.docs.page import shortened
from tests.docs.reader import follow
from tests.tasks import tiny_benchmarks

pytestmark = pytest.mark.slow

TUTORIALS = [
    page
    for page in sorted((ROOT / "docs" / "tutorials").glob("*.md"))
    if "bash" in {fence.language for fence in fences(page.read_text(encoding="utf-8"))}
]
WRITTEN = ("--out", "--json", "--html", "--markdown", "--png", "--svg")
"""Options of `atomthink` that name what it writes."""


def typed(page: Path, program: str) -> Iterator[list[str]]:
    """Yields the arguments of all runs of a program in the blocks that are executed."""
    for fence in fences(page.read_text(encoding="utf-8")):
        if fence.language == "bash":
            for command in command_lines(shortened(fence.code)):
                words = arguments(command, program)
                if words is not None:
                    yield words


def check_run(words: list[str], folder: Path) -> None:
    """Checks that a run has asked what was typed, and that no question has failed."""
    parser = ArgumentParser()
    for option in ("--tasks", "--output_path"):
        parser.add_argument(option, required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--log_samples", action="store_true")
    options, _ = parser.parse_known_args(words)
    files = [file for file in folder.rglob("*_results.json") if f"/{options.output_path}/" in str(file)]
    assert files, words
    for file in files:
        results = json.loads(file.read_text())
        for task, count in results["n-samples"].items():
            assert count["effective"] == min(options.limit or count["original"], count["original"]) > 0
            samples = file.with_name(file.name.replace("results.json", f"samples_{task}.jsonl"))
            if options.log_samples:
                lines = [json.loads(line) for line in samples.read_text().splitlines()]
                assert len(lines) == count["effective"], samples
                assert "failed" not in {line["token_counts"][0].get("status") for line in lines}, samples


def check_report(folder: Path) -> None:
    """Checks that a PRM was measured on all labelled chains."""
    (file,) = folder.rglob("report.json")
    measured = json.loads(file.read_text())["set"]
    assert measured["scored"] == measured["chains"] > 0


def check_written(words: list[str], folder: Path) -> None:
    """Checks that what a command names as its output is there and not empty."""
    for option, name in pairwise(words):
        if option in WRITTEN:
            found = [file for file in folder.rglob(Path(name).name) if str(file).endswith(f"/{Path(name)}")]
            assert found, words
            assert all(file.is_dir() or file.stat().st_size for file in found), words


def test_the_tutorials_are_found() -> None:
    pages = {"first-run", "evaluate-a-model", "mathvista-entry", "train-a-prm", "search-plugin"}
    assert {page.stem for page in TUTORIALS} >= pages


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_works_from_top_to_bottom(page: Path, tmp_path: Path) -> None:
    folder = tiny_benchmarks.write(tmp_path / "work")
    done = follow(page, tmp_path, "bash", "python")
    assert done.returncode == 0, done.stdout
    for words in typed(page, "lmms-eval"):
        check_run(words, folder)
    for words in typed(page, "atomthink"):
        check_written(words, folder)
        if words[:2] == ["prm", "eval"]:
            check_report(folder)
