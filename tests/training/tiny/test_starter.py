"""`atomthink init`: what it writes, and that the commands it prints run as they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from atomthink_plugin.cli import main


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


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "made"), [("prm", "report.json"), ("policy", "policy/model.safetensors")])
def test_the_printed_commands_run_as_they_are(
    kind: str, made: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", kind, str(tmp_path / "project")]) == 0
    printed = capsys.readouterr().out
    commands = printed[printed.index("cd ") :]
    places = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-e", "-c", commands],
        cwd=tmp_path,
        env={**os.environ, **places, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "project" / made).is_file()
    if kind == "prm":
        report = json.loads((tmp_path / "project" / made).read_text())
        assert report["set"]["scored"] == report["set"]["chains"] > 0
    else:
        assert "atomthink_demo" in done.stdout
