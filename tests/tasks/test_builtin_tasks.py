"""The tasks that replace lmms-eval's own where its judge has no key: names, prompts, and errors of missing data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from tests import commands
from tests.tasks.tiny_benchmarks import MATHVISTA_FEATURES, mathvista_rows, write

pytestmark = pytest.mark.slow


SCRIPT = Path(__file__).with_name("builtin_prompts.py")
VERSIONS = ("text_dominant", "text_lite", "text_only", "vision_dominant", "vision_intensive", "vision_only")
NAMES = [
    "mathverse_testmini",
    *(f"mathverse_testmini_{version}" for version in VERSIONS),
    "mathvista_test",
    *(f"mathvista_testmini_{prompt}" for prompt in ("cot", "format", "solution")),
]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("seen")
    bad = home / "bad"
    for folder, split in (("column", "test"), ("split", "testmini")):
        data = bad / folder / "AI4Math/MathVista/data"
        data.mkdir(parents=True)
        rows = Dataset.from_list(mathvista_rows(split), features=MATHVISTA_FEATURES)
        rows = rows.remove_columns("answer_type") if folder == "column" else rows
        rows.to_parquet(data / f"{split}-00000-of-00001.parquet")
    (bad / "unreachable").mkdir()
    env = commands.environment(home / "cache", {"PYTHONPATH": str(Path(__file__).parents[2])})
    done = commands.run("python", SCRIPT, home / "seen.json", bad, cwd=write(home / "data"), env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads((home / "seen.json").read_text())
    return report


@pytest.mark.parametrize("when", ["keyless", "azure without its key"])
def test_tasks_are_replaced_if_the_judge_has_no_key(seen: dict[str, Any], when: str) -> None:
    assert seen["taken"][when] == NAMES


@pytest.mark.parametrize("when", ["keyed", "azure", "local", "opted out"])
def test_tasks_are_not_replaced_otherwise(seen: dict[str, Any], when: str) -> None:
    assert seen["taken"][when] == []


@pytest.mark.parametrize("name", [*NAMES, "mathvista_atomic_testmini", "mathvision_atomic_testmini"])
def test_prompts_and_settings_are_those_of_the_builtin_task(seen: dict[str, Any], name: str) -> None:
    compared = seen["compared"][name]
    theirs, ours = compared["asked"]
    assert len(theirs) >= 2
    assert ours == theirs
    assert compared["settings"][0] == compared["settings"][1]


@pytest.mark.parametrize(
    ("case", "names"),
    [
        ("split", ["`mathvista_atomic_test`", "`AI4Math/MathVista`", "`test`"]),
        ("column", ["`AI4Math/MathVista`", "`answer_type`", "choices"]),
        ("unreachable", ["`mathvista_atomic_test`", "`AI4Math/MathVista`", "./AI4Math/MathVista/data"]),
    ],
)
def test_missing_data_is_an_error_that_names_it(seen: dict[str, Any], case: str, names: list[str]) -> None:
    assert [name for name in names if name not in seen["errors"][case]] == []
