"""uv.lock: in step with pyproject.toml, and free of addresses that only one machine reaches."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
HOSTS = {"https://pypi.org", "https://files.pythonhosted.org"}


def locked_requirements() -> set[str]:
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    (project,) = (package for package in packages if package["name"] == "atomthink-plugin")
    found = set()
    for entry in project["metadata"]["requires-dist"]:
        extras = f"[{','.join(entry['extras'])}]" if "extras" in entry else ""
        marker = f"; {entry['marker']}" if "marker" in entry else ""
        found.add(f"{entry['name']}{extras}{entry.get('specifier', '')}{marker}")
    return {normal(text) for text in found}


def normal(text: str, extra: str | None = None) -> str:
    requirement = Requirement(text)
    name = re.sub(r"[-_.]+", "-", requirement.name).lower()
    conditions = str(requirement.marker or "").split(" and ") if requirement.marker else []
    if extra is not None:
        conditions.append(f'extra == "{extra}"')
    return f"{name} {sorted(requirement.extras)} {requirement.specifier} {sorted(conditions)}"


def test_the_lock_has_the_requirements_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {normal(text) for text in project["dependencies"]}
    for extra, texts in project["optional-dependencies"].items():
        declared |= {normal(text, extra) for text in texts}
    assert locked_requirements() == declared, "run `uv lock`"


def test_the_lock_names_pypi_and_no_other_host() -> None:
    lock = (ROOT / "uv.lock").read_text()
    assert set(re.findall(r"\w+://[^/\"]+", lock)) == HOSTS
    packages = tomllib.loads(lock)["package"]
    sources = [package["source"] for package in packages if package["name"] != "atomthink-plugin"]
    assert {str(source) for source in sources} == {str({"registry": "https://pypi.org/simple"})}


@pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not installed")
def test_uv_accepts_the_lock_without_a_network() -> None:
    check = ["uv", "lock", "--check", "--offline", "--default-index", "https://pypi.org/simple"]
    done = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
