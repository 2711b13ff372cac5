"""What is installed: one import package, with everything it needs at run time."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files of the wheel, built from a copy so that the checkout stays clean."""
    copy, wheels = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheels")
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    tracked = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in tracked.stdout.splitlines():
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", wheels]
    subprocess.run([*pip, copy], check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.mark.slow
def test_the_wheel_installs_one_package_and_nothing_else(names: set[str]) -> None:
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"atomthink_plugin"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "py.typed",
        "api.py",
        "searches/beam.py",
        "model_adapters/register.py",
        "model_adapters/weights/policy/model.safetensors",
        "model_adapters/weights/prm/tokenizer.json",
        "tasks/capability/atomic_capability.yaml",
        "tasks/capability/taxonomy.yaml",
        "tasks/demo/atomthink_demo.yaml",
        "tasks/demo/questions.jsonl",
        "report/page/base.css",
        "report/page/katex/LICENSE",
        "report/page/katex/fonts/KaTeX_Main-Regular.woff2",
        "training/train/prm.py",
        "training/recipes/tiny/15-prm-mined.yaml",
        "training/recipes/accelerate/fsdp.yaml",
    ],
)
def test_the_wheel_holds_what_a_run_needs(names: set[str], name: str) -> None:
    assert f"atomthink_plugin/{name}" in names


def test_every_folder_with_code_is_listed_as_a_package() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = {"atomthink_plugin"}
    for top in ("atomthink_plugin", "model_adapters", "tasks", "training"):
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
