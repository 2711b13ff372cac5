from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from atomthink_plugin.cli import main


def test_help_names_the_commands_without_importing_anything_heavy() -> None:
    code = "import sys\nfrom atomthink_plugin.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "heavy = {'torch', 'transformers', 'lmms_eval', 'datasets', 'scipy', 'numpy', 'rich'}\n"
    code += "print('HEAVY', heavy & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "demo" in done.stdout
    assert "HEAVY set()" in done.stdout


def test_the_demo_answers_and_writes_its_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.json"
    modes = ["direct", "quick", "slow", "slow:majority"]
    assert main(["demo", "--questions", "6", "--json", str(file), "--modes", *modes]) == 0
    rows = {row["mode"]: row for row in json.loads(file.read_text())}
    assert list(rows) == modes
    assert all(len(row["right"]) == 6 and row["failed"] == 0 for row in rows.values())
    assert rows["direct"]["tokens"] < rows["quick"]["tokens"] < rows["slow"]["tokens"]
    assert rows["slow"]["prm_calls"] > 0 == rows["slow:majority"]["prm_calls"]
    printed = capsys.readouterr().out
    assert "95 % interval" in printed
    assert f"{rows['slow']['accuracy']:.1%}" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--questions", "0"], "`--questions 0`: the demo task has 1 to 200 questions"),
        (["--modes", "fast"], "`thinking=fast`: Input should be 'direct', 'cot', 'quick' or 'slow'"),
        (["--modes", "slow:mcts"], "`search=mcts` is unknown"),
    ],
)
def test_bad_input_is_explained(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", *arguments]) == 2
    assert message in capsys.readouterr().err
