"""The effects of the installed plugin on lmms-eval, from one process that runs `harness_run.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from atomthink_plugin.report.run_samples import Run, Sample
from atomthink_plugin.report.verdicts import Verdicts
from tests import commands

pytestmark = pytest.mark.slow


SCRIPT = Path(__file__).with_name("harness_run.py")


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("harness")
    # The key is for the built-in judges, which are set up on import even where a rule decides.
    extra = {"OPENAI_API_KEY": "EMPTY", "PYTHONPATH": str(SCRIPT.parents[2])}
    env = commands.environment(folder / "cache", extra)
    result = commands.run("python", SCRIPT, folder / "seen.json", cwd=folder, env=env)
    assert result.returncode == 0, result.stdout + result.stderr
    report: dict[str, Any] = json.loads((folder / "seen.json").read_text())
    return report


@pytest.mark.parametrize("scorer", ["mathvision", "mathvision_reasoning", "mathvista_reasoning", "mathverse_reasoning"])
def test_the_builtin_rule_based_scorers_separate_right_from_wrong(seen: dict[str, Any], scorer: str) -> None:
    assert seen["scorers"][scorer] == [True, False]


def test_verdicts_are_found_in_what_the_builtin_tasks_log(seen: dict[str, Any]) -> None:
    for name, (metric, *logged) in seen["logged"].items():
        samples = [Sample("task", i, "reply", {metric: value}) for i, value in enumerate(logged)]
        results = {"higher_is_better": {"task": {metric: True}}}
        verdicts = Verdicts(Run(Path("results.json"), results, {"task": samples}), "task")
        judged = len(logged) == 2  # a right reply and a wrong one; those that are never judged have one
        assert [verdicts.of(sample) for sample in samples] == ([True, False] if judged else [None]), name
        assert (verdicts.missing == []) is judged, name


@pytest.mark.parametrize(
    ("when", "ours"),
    [("names", True), ("opt_out", False), ("broken", False)],
)
def test_our_tasks_are_found_and_the_builtin_ones_stay(seen: dict[str, Any], when: str, ours: bool) -> None:
    assert seen[when] == {"atomthink_demo": ours, "mathvision_testmini": True}


def test_the_demo_asks_a_chat_model_about_pictures(seen: dict[str, Any]) -> None:
    ids, texts, _, sizes = zip(*seen["chat"]["questions"], strict=True)
    assert ids == tuple(f"atomthink_demo/test/{doc}/{repeat}" for doc in range(3) for repeat in range(2))
    assert all(text.endswith("Answer with a single number.") for text in texts)
    assert all(size == [224, 224] for size in sizes)


def test_arguments_of_the_command_line_override_those_of_the_task(seen: dict[str, Any]) -> None:
    given = [arguments for _, _, arguments, _ in seen["chat"]["questions"]]
    assert given == [{"max_new_tokens": 64, "temperature": 0.5, "until": []}] * 6


def test_samples_of_the_demo_have_the_extracted_answer(seen: dict[str, Any]) -> None:
    assert seen["chat"]["scores"]["acc,none"] == pytest.approx(2 / 3)
    samples = seen["chat"]["samples"]
    assert [sample["acc"] for sample in samples] == [1.0, 0.0, 1.0]
    assert [sample["extracted"] for sample in samples] == [samples[0]["target"], "none", samples[2]["target"]]
    assert all(sample["n_steps"] == len(sample["steps"]) == 2 for sample in samples)
    assert all(sample["token_counts"][0]["policy_calls"] == 2 for sample in samples)


def test_the_demo_asks_a_simple_model_too(seen: dict[str, Any]) -> None:
    assert all(asked[1:] == ["RGB", [224, 224]] for asked in seen["simple"]["questions"])
    assert [sample["acc"] for sample in seen["simple"]["samples"]] == [1.0, 0.0, 1.0]
