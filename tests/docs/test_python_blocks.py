"""Every Python block of the documentation runs, the blocks of a page in order, and so do the examples."""

from __future__ import annotations

from pathlib import Path

import pytest

from atomthink_plugin.tasks.demo.figures import draw
from atomthink_plugin.tasks.demo.questions import held_out
from tests import commands
from tests.docs.fences import PAGES, ROOT, fences
from tests.docs.reader import follow

pytestmark = pytest.mark.slow

WITH_PYTHON = [
    page
    for page in PAGES
    if "python" in {fence.language for fence in fences((ROOT / page).read_text(encoding="utf-8"))}
    and page.parent != Path("docs/tutorials")
]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=str)
def test_the_python_blocks_of_a_page_run_in_order(page: Path, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    draw(held_out(1)[0]).save(tmp_path / "work" / "figure.png")
    done = follow(page, tmp_path, "python")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda file: file.stem)
def test_an_example_runs(example: Path, tmp_path: Path) -> None:
    done = commands.run("python", example, cwd=tmp_path, env=commands.environment(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()
    assert not (tmp_path / "cache").exists()
