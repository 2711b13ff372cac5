"""The GitHub workflows run what the repository has, on the Python versions it names; its files pass the hooks."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"


def workflow(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((GITHUB / "workflows" / f"{name}.yml").read_text())
    return read


def steps(name: str) -> list[dict[str, Any]]:
    return [step for job in workflow(name)["jobs"].values() for step in job.get("steps", [])]


def test_python_versions_are_those_of_the_classifiers() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = [re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", text) for text in project["classifiers"]]
    versions = [match[1] for match in found if match]
    assert workflow("ci")["jobs"]["everything"]["strategy"]["matrix"]["python"] == versions
    assert project["requires-python"] == f">={versions[0]}"
    nox = re.search(r'"python_version", \[(.*?)\]', (ROOT / "noxfile.py").read_text())
    assert nox
    assert re.findall(r"3\.\d+", nox[1]) == versions


@pytest.mark.parametrize("name", ["ci", "release"])
def test_programs_of_the_repository_exist(name: str) -> None:
    commands = " ".join(step.get("run", "") for step in steps(name)).split()
    programs = [word for word in commands if word.startswith(".")]
    assert programs
    assert all(os.access(ROOT / program, os.X_OK) for program in programs)


@pytest.mark.parametrize("name", ["ci", "release"])
def test_actions_are_pinned_and_no_token_is_stored(name: str) -> None:
    used = [step["uses"] for step in steps(name) if "uses" in step]
    assert used
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", action) for action in used), used
    assert "secrets." not in (GITHUB / "workflows" / f"{name}.yml").read_text()


def test_only_the_jobs_that_publish_may_write() -> None:
    for name in ("ci", "release"):
        assert workflow(name)["permissions"] == {"contents": "read"}
    allowed = {name for name, job in workflow("release")["jobs"].items() if "permissions" in job}
    assert allowed == {"publish", "pages"}


def test_a_bug_report_asks_for_the_doctor() -> None:
    form = yaml.safe_load((GITHUB / "ISSUE_TEMPLATE" / "bug.yml").read_text())
    required = {field["id"] for field in form["body"] if field.get("validations", {}).get("required")}
    assert {"command", "doctor"} <= required


def test_the_hooks_of_a_commit_find_nothing_to_fix() -> None:
    """What `end-of-file-fixer` and `trailing-whitespace` do, without the network that pre-commit needs once."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = {hook["id"]: hook for repo in config["repos"] for hook in repo["hooks"]}
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    wrong = []
    for name in filter(None, listed.stdout.decode().split("\0")):
        content = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b""
        if b"\0" in content:
            continue
        if not re.search(hooks["end-of-file-fixer"]["exclude"], name) and content:
            wrong += [f"{name}: its end"] if not content.endswith(b"\n") or content.endswith(b"\n\n") else []
        if not re.search(hooks["trailing-whitespace"]["exclude"], name):
            wrong += [f"{name}: blanks"] if re.search(rb"[ \t]+$", content, re.MULTILINE) else []
    assert wrong == []
