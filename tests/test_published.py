"""The files of published results: checked as a user's command is, then run on the embedded model."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from atomthink_plugin import load, make_question
from atomthink_plugin.api import Outcome, Question
from atomthink_plugin.config import Plan
from atomthink_plugin.formats.mini import Mini
from atomthink_plugin.formats.sentences import Sentences
from atomthink_plugin.formats.stages import Stages
from atomthink_plugin.named_models import plan_for
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.tasks.demo.figures import draw
from atomthink_plugin.tasks.demo.questions import held_out

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "examples" / "published").glob("*.yaml"))
UNITS: dict[type[object], str] = {Stages: "SUMMARY", Sentences: "sentence", Mini: "mini"}
"""The units that the embedded model writes in each format; it knows no stages, and stops at the first one."""

each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def comments(file: Path) -> dict[str, str]:
    """The comments before the arguments by their name; a line that is indented continues the one before it."""
    head = "".join(line[1:] for line in file.read_text().splitlines(keepends=True) if line.startswith("#"))
    found = re.findall(r"^ (\w+): (.*(?:\n   .*)*)", head, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def command(file: Path) -> dict[str, str]:
    """The options of the command in the file's comments."""
    words = shlex.split(comments(file)["run"])
    assert words.pop(0) == "lmms-eval"
    words.remove("--log_samples")
    return dict(zip(words[::2], words[1::2], strict=True))


def planned(file: Path) -> Plan:
    return plan_for(command(file)["--model"], {"config": str(file)})


def test_the_readme_lists_every_file() -> None:
    readme = (ROOT / "examples" / "published" / "README.md").read_text()
    assert re.findall(r"\(([\w-]+\.yaml)\)", readme) == [file.name for file in FILES]


@each_file
def test_a_file_says_what_it_reproduces(file: Path) -> None:
    said = comments(file)
    assert set(said) == {"paper", "number", "settings", "differs", "hardware", "run"}
    assert all(said.values())


@each_file
def test_the_command_of_a_file_uses_it_and_a_task_of_this_package(file: Path) -> None:
    options = command(file)
    assert options["--model_args"] == f"config={file.relative_to(ROOT)}"
    assert list((ROOT / "tasks").rglob(f"{options['--tasks']}.yaml"))


@each_file
def test_a_file_is_a_valid_run_that_does_what_its_arguments_say(file: Path) -> None:
    arguments: dict[str, Any] = yaml.safe_load(file.read_text())
    plan = planned(file)
    assert plan.search_name == arguments.get("search", arguments["thinking"])
    assert plan.policy.arguments["pretrained"] == arguments["pretrained"]
    assert (plan.scorer is not None) == (arguments.get("prm", "None") != "None")
    assert None not in arguments.values()  # a null is no argument; `None` is
    assert (plan.settings.budget_calls is None) == (arguments.get("budget_calls") == "None")


@pytest.fixture(scope="module")
def embedded() -> Runner:
    return load("atomthink_tiny", thinking="slow", search="beam").runner


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    return [make_question(item.text, draw(item)) for item in held_out(2)]


@pytest.mark.slow
@each_file
def test_a_file_runs(file: Path, embedded: Runner, questions: list[Question]) -> None:
    plan = planned(file)
    few = replace(plan.settings, max_new_tokens=256, max_steps=8, retries=1, budget_calls=30)
    runner = Runner(
        policy=embedded.policy,
        scorer=embedded.scorer if plan.scorer is not None else None,
        format=replace(plan.format, stage_tokens=32) if isinstance(plan.format, Stages) else plan.format,
        search=plan.search,
        settings=replace(few, sampling=replace(few.sampling, max_tokens=48)),
        roles=dict.fromkeys(plan.roles, embedded.policy),
        trees=True,
    )
    for result in runner.run(questions):
        assert isinstance(result, Outcome), result
        assert result.usage.policy_calls > 0
        units = {node.unit for node in result.nodes if node.is_step}
        scorable = plan.scorer is not None and units != {"SUMMARY"}  # SWIRES scores the stages after it
        assert (result.usage.score_calls > 0) == scorable
        assert units <= {UNITS.get(type(plan.format), "step")}
        assert units
