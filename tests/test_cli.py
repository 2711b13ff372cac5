from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from atomthink_plugin.cli import main
from atomthink_plugin.tasks.demo.questions import held_out


def test_help_names_the_commands_without_importing_anything_heavy() -> None:
    code = "import sys\nfrom atomthink_plugin.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "heavy = {'torch', 'transformers', 'lmms_eval', 'datasets', 'scipy', 'numpy', 'rich'}\n"
    code += "print('HEAVY', heavy & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "demo" in done.stdout
    assert "HEAVY set()" in done.stdout


def test_the_demo_answers_and_writes_its_rows_and_a_page_of_trees(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "rows.json"
    modes = ["direct", "quick", "slow:majority", "slow"]
    assert main(["demo", "--questions", "6", "--json", str(file), "--modes", *modes]) == 0
    rows = {row["mode"]: row for row in json.loads(file.read_text())}
    assert list(rows) == modes
    assert all(len(row["right"]) == 6 and row["failed"] == 0 for row in rows.values())
    assert rows["direct"]["tokens"] < rows["quick"]["tokens"] < rows["slow"]["tokens"]
    assert rows["slow"]["prm_calls"] > 0 == rows["slow:majority"]["prm_calls"]
    printed = capsys.readouterr().out
    assert "95 % interval" in printed
    assert f"{rows['slow']['accuracy']:.1%}" in printed
    (example,) = (number for number in range(6) if held_out(6)[number].text in " ".join(printed.split()))
    assert rows["slow"]["right"][example] is any(rows["slow"]["right"])
    page = tmp_path / "cache" / "atomthink" / "demo.html"
    assert str(page) in printed
    assert f"{sum(rows['slow']['right'])} of 6" in page.read_text()
    assert not list(tmp_path.glob("cache/**/*.jsonl"))  # the trees were kept for the page only


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--questions", "0"], "`--questions 0` 1 200"),
        (["--modes", "fast"], "`thinking=fast` direct cot quick slow"),
        (["--modes", "slow:mcts"], "`search=mcts` beam"),
    ],
)
def test_bad_input_is_named_with_what_is_valid(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", *arguments]) == 2
    said = capsys.readouterr().err
    assert not [name for name in named.split() if name not in said], said


def interrupted_demo(folder: Path, at: str, times: int) -> tuple[int, str]:
    """Sends Ctrl-C to the demo after `times` lines with `at`; returns its exit status and what it printed."""
    command = [sys.executable, "-m", "atomthink_plugin.cli", "demo", "--questions", "16", "--modes", "quick", "slow"]
    demo = subprocess.Popen(
        [*command, "--json", "rows.json"],
        cwd=folder,
        env={**os.environ, "XDG_CACHE_HOME": str(folder), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell's background jobs ignore it, and so do their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert demo.stdout is not None
    lines = []
    for line in demo.stdout:
        lines.append(line)
        if sum(at in one for one in lines) == times:
            demo.send_signal(signal.SIGINT)
            break
    for line in demo.stdout:
        lines.append(line)
        if line.startswith("Exception ignored"):  # Python drops an interrupt in a weak reference's callback
            demo.kill()
            demo.wait()
            return interrupted_demo(folder, at, times)
    return demo.wait(), "".join(lines)


def test_an_interrupt_of_the_demo_leaves_what_is_finished(tmp_path: Path) -> None:
    status, printed = interrupted_demo(tmp_path, "100%|", 2)  # weights are loaded: the second mode's policy
    assert status == 130, printed
    assert "Traceback" not in printed
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert (row["mode"], len(row["right"])) == ("quick", 16)
    assert f"{row['accuracy']:.1%}" in printed
    assert "1 of 2" in printed


def test_an_interrupt_during_the_imports_is_one_line(tmp_path: Path) -> None:
    status, printed = interrupted_demo(tmp_path, "", 1)
    assert status == 130, printed
    assert len(printed.splitlines()) == 2  # what it was about to load, and that it was interrupted


def test_an_interrupt_of_any_command_is_a_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("atomthink_plugin.tasks.step_report.show", interrupt)
    assert main(["steps", str(tmp_path)]) == 130
    assert len(capsys.readouterr().err.splitlines()) == 1
