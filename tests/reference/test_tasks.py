"""The page of tasks has every task and group in `tasks/`, with its data set, split, prompt and metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lmms_eval.utils import load_yaml_config

from atomthink_plugin.tasks.harness_patches import BUILTIN, KEEP_BUILTIN, NO_TASKS, TASKS
from tests.reference.pages import code, page, section, table

ADDED = [file for file in TASKS.rglob("*.yaml") if file.parent != BUILTIN]


def settings(file: Path) -> dict[str, Any]:
    """What a task's files say, without importing the functions they name."""
    return dict(load_yaml_config(str(file), mode="simple"))


TASK_FILES = {one["task"]: one for one in map(settings, ADDED) if isinstance(one.get("task"), str)}
GROUPS = {one["group"]: one["task"] for one in map(settings, ADDED) if "group" in one}


def test_each_added_task_has_its_data_set_and_split() -> None:
    rows = table(section(page("tasks.md"), "## Tasks that are added"))
    documented = {code(row[0])[0]: row for row in rows if len(row) == 5}
    assert documented.keys() == TASK_FILES.keys()
    for name, row in documented.items():
        assert code(row[2]) == [TASK_FILES[name]["test_split"]], name
        if TASK_FILES[name]["dataset_path"] != "json":
            assert code(row[1]) == [TASK_FILES[name]["dataset_path"]], name


@pytest.mark.parametrize("name", TASK_FILES)
def test_the_named_prompt_is_the_tasks(name: str) -> None:
    (row,) = (row for row in table(page("tasks.md")) if code(row[0]) == [name])
    special = TASK_FILES[name].get("lmms_eval_specific_kwargs", {}).get("default", {})
    kind = special.get("shot_type") or special.get("query_type")
    assert kind is None or kind in code(row[4])


def test_each_group_has_its_tasks() -> None:
    rows = [line for line in page("tasks.md").splitlines() if line.startswith("| `") and line.count("|") == 3]
    found = {code(line.split("|")[1])[0]: code(line.split("|")[2]) for line in rows}
    assert {name: found.get(name) for name in GROUPS} == GROUPS


def test_each_replaced_task_has_its_prompt_and_limit() -> None:
    rows = {code(row[0])[0]: row for row in table(section(page("tasks.md"), "## lmms-eval's own tasks"))}
    files = {file.stem: settings(file) for file in BUILTIN.glob("*.yaml")}
    assert rows.keys() == files.keys()
    for name, one in files.items():
        special = one["lmms_eval_specific_kwargs"]["default"]
        assert code(rows[name][1]) == [special.get("shot_type") or special["query_type"]]
        assert int(rows[name][2]) == one["generation_kwargs"]["max_new_tokens"]


def test_each_metric_of_the_benchmark_tasks_is_explained() -> None:
    rows = table(section(page("tasks.md"), "## The benchmark tasks"))
    explained = {name for row in rows for name in code(row[0])}
    used = {
        one["metric"] for name, file in TASK_FILES.items() if name.startswith("math") for one in file["metric_list"]
    }
    assert explained == used


def test_each_metric_of_the_tasks_of_critics_is_explained() -> None:
    rows = table(section(page("tasks.md"), "## The tasks of critics"))
    critics = [file for file in TASK_FILES.values() if "critic_of" in file.get("metadata", {})]
    assert len(critics) == 12
    assert {code(row[0])[0] for row in rows} == {one["metric"] for file in critics for one in file["metric_list"]}


def test_the_variables_are_the_sources() -> None:
    rows = table(section(page("tasks.md"), "## Variables"))
    assert {NO_TASKS, KEEP_BUILTIN} <= {name for row in rows for name in code(row[0])}
