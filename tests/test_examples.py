"""What a reader of the documentation types runs as it is printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from atomthink_plugin.tasks.demo.figures import draw
from atomthink_plugin.tasks.demo.questions import held_out

pytestmark = pytest.mark.slow


ROOT = Path(__file__).parents[1]


def run(code: str, folder: Path) -> list[str]:
    """Returns the lines that a program prints."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda file: file.stem)
def test_an_example_runs(example: Path, tmp_path: Path) -> None:
    lines = run(example.read_text(encoding="utf-8"), tmp_path)
    assert lines
    assert not (tmp_path / "cache").exists()


def test_the_lines_of_the_readme_answer_a_question(tmp_path: Path) -> None:
    draw(held_out(1)[0]).save(tmp_path / "figure.png")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = (code for code in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "import ask" in code)
    answer, *steps, scores = run(block, tmp_path)
    assert answer.isdigit()
    assert len(steps) == len(scores.split(","))
    assert answer in steps[-1]
