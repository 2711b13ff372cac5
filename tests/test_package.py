"""The distributions: what they hold, and that the wheel works where the checkout cannot be imported."""

from __future__ import annotations

import email.message
import email.parser
import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from atomthink_plugin.version import __version__

ROOT = Path(__file__).parents[1]
FOLDERS = ("atomthink_plugin", "model_adapters", "tasks", "training")
BUILD_SDIST = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
CACHES = ("tests/__pycache__/conftest.cpython-311.pyc", "tasks/demo/__pycache__/old.pyc", ".mypy_cache/3.11/cache.db")


def tracked_files() -> set[str]:
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, so that nothing says which files belong to the source")
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in done.stdout.splitlines() if (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, built from a copy that also holds caches."""
    copy, dist = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("dist")
    for name in tracked_files():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((ROOT / name).read_bytes())
    for name in CACHES:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(b"cache")
    subprocess.run([sys.executable, "-c", BUILD_SDIST, dist], cwd=copy, check=True, capture_output=True)
    (archive,) = dist.glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution as `pip install` does it."""
    wheels = tmp_path_factory.mktemp("wheels")
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", wheels]
    subprocess.run([*pip, sdist], check=True, capture_output=True)
    (archive,) = wheels.glob("*.whl")
    return archive


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new virtual environment with the wheel; its dependencies are those of this environment."""
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True, capture_output=True)
    python = venv / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*pip, wheel], check=True, capture_output=True)
    (site,) = venv.glob("lib/python3*/site-packages")
    # A plain path: the .pth file of the editable install, which leads to the checkout, is not read through it.
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    return python


def run_in_empty_folder(folder: Path, *command: str | Path) -> str:
    assert not list(folder.iterdir())
    home = folder.parent / f"{folder.name}-home"
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    variables |= {"HF_HOME": str(home / "hf"), "XDG_CACHE_HOME": str(home / "cache"), "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_sdist_holds_the_source_and_no_caches(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        files = {member.name.partition("/")[2] for member in archive if member.isfile()}
    generated = {name for name in files if name.startswith("atomthink_plugin.egg-info/")} | {"PKG-INFO", "setup.cfg"}
    assert files - generated == tracked_files()


@pytest.mark.slow
def test_the_wheel_installs_one_package_and_nothing_else(names: set[str]) -> None:
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"atomthink_plugin"}


@pytest.mark.slow
def test_the_wheel_holds_all_files_of_the_four_folders_but_the_training_logs(names: set[str]) -> None:
    ours = {name for name in tracked_files() if name.split("/")[0] in FOLDERS}
    expected = {name for name in ours if not name.startswith("training/tiny/logs/")}
    expected = {name if name.startswith("atomthink_plugin/") else f"atomthink_plugin/{name}" for name in expected}
    assert {name for name in names if ".dist-info" not in name} == expected


@pytest.mark.slow
def test_the_metadata_matches_pyproject_and_has_the_readme(wheel: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata: email.message.Message = email.parser.Parser().parsestr(archive.read(name).decode())
        entry_points = archive.read(name.replace("METADATA", "entry_points.txt")).decode()
    assert (metadata["Name"], metadata["Version"]) == (project["name"], project["version"])
    assert metadata["License-Expression"] == project["license"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert str(metadata.get_payload()).strip() == (ROOT / "README.md").read_text().strip()
    assert all(f"[{group}]" in entry_points for group in project["entry-points"])


@pytest.mark.slow
def test_the_demo_runs_from_the_wheel_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    show = "import atomthink_plugin as a, atomthink_plugin.tasks as t; print(a.__file__); print(t.__file__)"
    where = run_in_empty_folder(tmp_path, installed, "-c", show)
    assert all(line.startswith(str(installed.parents[1])) for line in where.splitlines()), where
    demo = run_in_empty_folder(
        tmp_path, installed.with_name("atomthink"), "demo", "--limit", "5", "--modes", "quick", "slow"
    )
    assert "quick" in demo
    assert "slow" in demo


@pytest.mark.slow
def test_lmms_eval_finds_the_model_and_the_task_of_the_wheel(installed: Path, tmp_path: Path) -> None:
    lmms_eval = (installed, "-m", "lmms_eval", "--model", "atomthink_tiny", "--tasks", "atomthink_demo")
    printed = run_in_empty_folder(tmp_path, *lmms_eval, "--limit", "2", "--batch_size", "1")
    assert "atomthink_demo" in printed


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    (locked,) = (
        package["version"]
        for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]
        if package["name"] == project["name"]
    )
    assert {project["version"], citation["version"], locked} == {__version__}
    assert __version__ in (ROOT / "CHANGELOG.md").read_text()


def test_every_folder_with_code_is_listed_as_a_package() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = {"atomthink_plugin"}
    for top in FOLDERS:
        parent = () if top == "atomthink_plugin" else ("atomthink_plugin",)
        for file in (ROOT / top).rglob("__init__.py"):
            found.add(".".join((*parent, *file.parent.relative_to(ROOT).parts)))
    assert set(setuptools["packages"]) == found


def test_the_embedded_model_is_a_few_megabytes() -> None:
    weights = (ROOT / "model_adapters" / "weights").rglob("*")
    assert sum(file.stat().st_size for file in weights if file.is_file()) < 8_000_000


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, atomthink_plugin, atomthink_plugin.api, atomthink_plugin.model_adapters.register as r\n"
    code += (
        "r.manifests(); print({'torch', 'transformers', 'datasets', 'lmms_eval.tasks', 'sympy'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
