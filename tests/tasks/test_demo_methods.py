"""Searches that ask prompts of their own, on the embedded model as its users run it: `lmms-eval` and `atomthink demo`.

The embedded model knows the steps of its training alone: it writes no tagged stage, and reviews no draft.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from atomthink_plugin.cli import main
from tests import commands

pytestmark = pytest.mark.slow


LIMIT = 4
RUNS = {
    "quick": "thinking=quick",
    "two_stage": "thinking=slow,search=two_stage",
    "self_refine": "thinking=slow,search=self_refine,rounds=2",
    "step_beam": "thinking=slow,search=stage_beam,format=continue,candidates=3",
    "stage_beam": "thinking=slow,search=stage_beam,retries=1,format_stage_tokens=40",
    "stages_best_of_n": "thinking=slow,search=best_of_n,n=2,format=stages,format_instruction=,retries=1",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process runs all: lmms-eval takes a list of runs in a configuration file, and JSON is YAML."""
    folder = tmp_path_factory.mktemp("methods")
    common = {"model": "atomthink_tiny", "tasks": "atomthink_demo", "limit": LIMIT, "log_samples": True}
    runs = [{**common, "model_args": args, "output_path": str(folder / name)} for name, args in RUNS.items()]
    (folder / "runs.yaml").write_text(json.dumps(runs))
    env = commands.environment(folder / "cache", {"ACCELERATE_USE_CPU": "true"})
    done = commands.run("lmms-eval", "--config", folder / "runs.yaml", cwd=folder, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def samples(home: Path, name: str) -> list[dict[str, Any]]:
    """The samples file of a run, each sample with what was counted."""
    (file,) = home.glob(f"{name}/**/*_samples_*.jsonl")
    found = [json.loads(line) for line in file.read_text().splitlines()]
    assert [sample["doc_id"] for sample in found] == list(range(LIMIT))
    return [{**sample, **sample["token_counts"][0]} for sample in found]


def trees(home: Path, name: str) -> list[list[dict[str, Any]]]:
    """The nodes of each question in the journal of a run."""
    (journal,) = {sample["journal"] for sample in samples(home, name)}
    records = [
        json.loads(line)
        for file in home.glob(f"cache/atomthink/journal/{journal}/rank*.jsonl")
        for line in file.read_text().splitlines()
    ]
    found: list[list[dict[str, Any]]] = [record["outcome"]["nodes"] for record in records if "outcome" in record]
    assert len(found) == LIMIT
    return found


@pytest.mark.parametrize("name", ["two_stage", "self_refine"])
def test_chains_are_as_good_as_the_quick_ones(home: Path, name: str) -> None:
    """Both begin with the quick chain; the embedded model's reviews and answers leave it as it is."""
    quick, own = samples(home, "quick"), samples(home, name)
    assert [sample["steps"] for sample in own] == [sample["steps"] for sample in quick]
    assert [sample["status"] for sample in own] == ["answered"] * LIMIT
    assert [sample["policy_calls"] for sample in own] == [sample["policy_calls"] + 1 for sample in quick]
    use = {"two_stage": "answer", "self_refine": "critic"}[name]
    assert [[node["use"] for node in tree if node["use"]] for tree in trees(home, name)] == [[use]] * LIMIT


def test_steps_are_chosen_by_duels(home: Path) -> None:
    found = samples(home, "step_beam")
    assert {sample["status"] for sample in found} == {"answered"}
    duels = 0
    for tree in trees(home, "step_beam"):
        kept = [node for node in tree if node["rejected"] is None]
        siblings = Counter(node["parent"] for node in kept if not node["use"])
        verdicts: Counter[str] = Counter()
        for node in tree:  # equal verdicts are one node
            verdicts[node["parent"]] += node["multiplicity"] if node["use"] == "judge" else 0
        assert +verdicts == {parent: count - 1 for parent, count in siblings.items() if count > 1}
        duels += verdicts.total()
    assert duels > 0


@pytest.mark.parametrize("name", ["stage_beam", "stages_best_of_n"])
def test_a_model_that_writes_no_stages_leaves_questions_unanswered_with_the_reason(home: Path, name: str) -> None:
    found = samples(home, name)
    assert {(sample["status"], sample["stopped"], sample["acc"]) for sample in found} == {("unanswered", "invalid", 0)}
    nodes = [node for tree in trees(home, name) for node in tree]
    rejected = {node["rejected"] for node in nodes}
    assert rejected <= {"has no </SUMMARY>", "cut at the token limit", "holds further tags", "empty"}
    assert {node["unit"] for node in nodes} == {"SUMMARY"}


def test_the_results_files_count_all_questions(home: Path) -> None:
    for name in RUNS:
        (file,) = home.glob(f"{name}/**/*_results.json")
        results = json.loads(file.read_text())["results"]["atomthink_demo"]
        assert results["acc,none"] == sum(sample["acc"] for sample in samples(home, name)) / LIMIT


def test_the_demo_compares_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "rows.json"
    modes = ["quick", "slow:two_stage", "slow:self_refine", "slow:stage_beam"]
    assert main(["demo", "--limit", "2", "--json", str(file), "--modes", *modes]) == 0
    rows = {row["mode"]: row for row in json.loads(file.read_text())}
    assert list(rows) == modes
    assert {row["failed"] for row in rows.values()} == {0}
    assert rows["slow:two_stage"]["right"] == rows["slow:self_refine"]["right"] == rows["quick"]["right"]
    assert [rows[mode]["unanswered"] for mode in modes] == [0, 0, 0, 2]
    assert "2 unanswered" in capsys.readouterr().out
    assert (tmp_path / "cache" / "atomthink" / "demo.html").is_file()
