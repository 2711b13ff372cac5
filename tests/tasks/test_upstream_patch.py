"""The patch of lmms-eval in docs/upstream: it applies, its tests pass, and with it our tasks need no hook."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

LMMS_EVAL = "0.7.3"
ROOT = Path(__file__).parents[2]
PATCH = ROOT / "docs" / "upstream" / "0001-tasks-by-entry-point.patch"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(version("lmms-eval") != LMMS_EVAL, reason=f"the patch is for lmms-eval {LMMS_EVAL}"),
]

LIST = """
import json, os
from lmms_eval.tasks import TaskManager
found = {"hook": hasattr(TaskManager.initialize_tasks, "__atomthink_tasks__")}
for switched_off in ("", "1"):
    os.environ["ATOMTHINK_NO_TASKS"] = switched_off
    found[switched_off] = sorted(TaskManager().task_index)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def patched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed lmms_eval, patched: links to all of it but the file that the patch changes."""
    folder = tmp_path_factory.mktemp("patched")
    spec = find_spec("lmms_eval")
    assert spec is not None
    assert spec.submodule_search_locations
    (installed,) = spec.submodule_search_locations
    for source, target in (
        (Path(installed), folder / "lmms_eval"),
        (Path(installed) / "tasks", folder / "lmms_eval" / "tasks"),
    ):
        target.mkdir()
        for entry in source.iterdir():
            if entry.name not in ("tasks", "__init__.py", "__pycache__"):
                (target / entry.name).symlink_to(entry)
        shutil.copy(source / "__init__.py", target)
    # A link to a folder is not searched for tasks, so these few tasks are the built-in ones.
    (folder / "lmms_eval" / "tasks" / "mathvista").unlink()
    shutil.copytree(Path(installed) / "tasks" / "mathvista", folder / "lmms_eval" / "tasks" / "mathvista")
    apply = ["git", "apply", "--include=lmms_eval/*", "--include=test/*", PATCH]
    subprocess.run(apply, cwd=folder, check=True, capture_output=True)
    return folder


def run(*command: str | Path, path: list[Path], cwd: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def site(folder: Path, name: str, entry_point: str) -> Path:
    """A folder for sys.path with the metadata of a package that has one task entry point, and nothing else."""
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[lmms_eval.tasks]\nnamed = {entry_point}\n")
    return folder


@pytest.fixture
def sites(tmp_path: Path) -> list[Path]:
    """Two packages: ours, by the entry point of pyproject.toml and without the hook, and another one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = site(tmp_path / "ours", "atomthink_plugin", project["entry-points"]["lmms_eval.tasks"]["atomthink"])
    other = site(tmp_path / "other", "other_benchmarks", "other_benchmarks")
    (other / "other_benchmarks").mkdir()
    (other / "other_benchmarks" / "__init__.py").touch()
    (other / "other_benchmarks" / "other.yaml").write_text("task: other_task\ndataset_path: none\n")
    return [ours, other]


def test_tasks_of_packages_are_listed_without_a_hook_and_ours_can_be_switched_off(
    patched: Path, sites: list[Path], tmp_path: Path
) -> None:
    printed = run(sys.executable, "-c", LIST, path=[patched, *sites], cwd=tmp_path)
    found = json.loads(printed.splitlines()[-1])
    assert found["hook"] is False
    ours = {"atomthink_demo", "mathverse_atomic", "atomic_capability"}
    assert {"mathvista_testmini", "other_task"} | ours <= set(found[""])
    assert {"mathvista_testmini", "other_task"} <= set(found["1"])
    assert not ours & set(found["1"])


def test_the_tests_of_the_patch_pass(patched: Path) -> None:
    pytest_command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "test"]
    assert "passed" in run(*pytest_command, path=[patched], cwd=patched)
