"""`atomthink init`: what it writes, and that the commands it prints run as they are."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from atomthink_plugin.cli import main
from tests import commands
from tests.docs.fences import ROOT, command_lines, fences
from tests.docs.page import shortened


@pytest.mark.parametrize("kind", ["prm", "policy"])
def test_a_project_is_small_and_never_overwrites(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "a project"
    assert main(["init", kind, str(folder)]) == 0
    capsys.readouterr()
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert sum(map(len, before.values())) < 2e6
    for line in (folder / "questions.jsonl").read_text().splitlines():
        assert (folder / json.loads(line)["images"][0]).is_file()
    assert main(["init", "policy", str(folder)]) == 2
    assert str(folder / "recipe.yaml") in capsys.readouterr().err
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


def printed_commands(kind: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Starts a project and returns what is printed to be typed next."""
    assert main(["init", kind, str(folder)]) == 0
    printed = capsys.readouterr().out
    return printed[printed.index("cd ") :]


def test_the_printed_commands_of_a_prm_are_those_of_the_tutorial(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tutorial is followed in the tests, which takes a minute."""
    tutorial = (ROOT / "docs" / "tutorials" / "train-a-prm.md").read_text(encoding="utf-8")
    typed = [command for fence in fences(tutorial) if fence.language == "bash" for command in command_lines(fence.code)]
    printed = list(command_lines(printed_commands("prm", tmp_path / "project", capsys)))[1:]
    assert [words[1] for words in printed] == ["label", "label", "train", "prm"]
    assert [words for words in typed if words in printed] == printed


@pytest.mark.slow
def test_the_printed_commands_of_a_policy_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = shortened(printed_commands("policy", tmp_path / "project", capsys))
    done = subprocess.run(
        ["bash", "-e", "-c", typed],
        cwd=tmp_path,
        env=commands.environment(tmp_path / "cache"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "project" / "policy" / "model.safetensors").is_file()
    assert "atomthink_demo" in done.stdout
