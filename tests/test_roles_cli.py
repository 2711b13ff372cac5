"""The roles of a search from the real command line: given, left out, misspelled, not to be loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests import commands
from tests.openai_server import ChatServer, serve
from tests.plugins.plugin_packages import install
from tests.test_lmms_eval_cli import environment, results, samples
from tests.tiny_models import folder, llava

pytestmark = pytest.mark.slow


KEY = "sk-of-the-environment-0123456789"
SEARCH = """
from atomthink_plugin.api import Choice, Message, Prompt, SearchKind, Unit
from atomthink_plugin.plugins.hookspecs import hookimpl


def debate(n: int = 2):
    async def search(tree):
        paths = await tree.rollouts(n)
        for role in ("judge", "summary"):
            turn = Message("user", (f"As {role}, what do you say about this?", paths[0].steps[-1].text))
            said = await tree.ask(paths[0], Prompt((turn,)), use=role, role=role, unit=Unit("verdict", 8, partial=True))
        return Choice(paths[0], float(len(said)), tree.why(paths[0]))

    return search


@hookimpl
def atomthink_searches():
    return {"debate": SearchKind(debate, scored=False, roles=("judge",), optional_roles=("summary",))}
"""
DEMO = {"model": "atomthink_tiny", "tasks": "atomthink_demo", "limit": 3, "log_samples": True}
THINKING = "thinking=slow,search=debate"


class Runs(NamedTuple):
    home: Path
    status: int
    printed: str
    server: ChatServer

    @property
    def refusals(self) -> list[str]:
        return [line for line in self.printed.splitlines() if line.startswith("atomthink:")]

    def settings(self, name: str) -> dict[str, Any]:
        (file,) = (self.home / name / "journal").glob("*/settings.json")
        read: dict[str, Any] = json.loads(file.read_text())
        return read

    def nodes(self, name: str) -> list[dict[str, Any]]:
        (file,) = (self.home / name / "journal").glob("*/rank0.jsonl")
        records = [json.loads(line) for line in file.read_text().splitlines()]
        assert [record["status"] for record in records] == ["done"] * 3
        return [node for record in records for node in record["outcome"]["nodes"]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One command line with a run for every case; those that are refused leave the others alone."""
    home = tmp_path_factory.mktemp("home")
    plugin = install(home / "site", debate=SEARCH)
    with serve(ChatServer(lambda history, temperature, seed: "The judge agrees.", key=KEY)) as server:
        typed = {
            "omitted": "",
            "misspelled": ",jugde_pretrained=m",
            "unused": ",judge_pretrained=m,judge_tensor_parallel_size=2",
            "lost": f",judge_pretrained={home / 'nothing'}",
            "given": f",judge_pretrained={folder(llava)},judge_device=cpu",
            "served": f",judge_pretrained=scripted,judge_base_url={server.url},summary_pretrained={folder(llava)}",
        }
        lines = [
            {
                **DEMO,
                "model_args": f"{THINKING}{own},journal={home / name / 'journal'}",
                "output_path": str(home / name / "out"),
            }
            for name, own in typed.items()
        ]
        (home / "runs.yaml").write_text(yaml.safe_dump(lines))
        env = {**environment(home), **plugin, "OPENAI_API_KEY": KEY}
        done = commands.run("lmms-eval", "--config", home / "runs.yaml", cwd=home, env=env)
    return Runs(home, done.returncode, done.stdout + done.stderr, server)


def test_a_role_that_cannot_be_used_is_one_line_by_its_typed_name_before_any_question(runs: Runs) -> None:
    named = [
        ("`judge_pretrained=`", "`search=debate`", "'judge'"),
        ("`jugde_pretrained`", "`judge_pretrained`"),
        ("`judge_tensor_parallel_size`", "judge_policy=vllm"),
        ("'judge'", "judge_pretrained=", "nothing"),
    ]
    assert runs.status == 2
    assert len(runs.refusals) == len(named), runs.printed
    for line, names in zip(runs.refusals, named, strict=True):
        assert not [name for name in names if name not in line], line
    for name in ("omitted", "misspelled", "unused", "lost"):
        assert not list((runs.home / name).glob("**/*_results.json"))
        assert not list((runs.home / name).glob("journal/*/*.jsonl"))
    assert "Traceback" not in runs.printed


@pytest.mark.parametrize("name", ["given", "served"])
def test_the_result_files_count_what_the_roles_were_asked(runs: Runs, name: str) -> None:
    assert "atomthink_demo" in results(runs.home / name)["results"], runs.printed
    written, nodes = samples(runs.home / name), runs.nodes(name)
    assert [sample["doc_id"] for sample in written] == [0, 1, 2]
    asked = [node["use"] for node in nodes if node["use"]]
    assert sorted(asked) == ["judge"] * 3 + ["summary"] * 3
    drawn = sum(node["multiplicity"] for node in nodes)
    assert sum(sample["token_counts"][0]["policy_calls"] for sample in written) >= drawn


def test_a_given_role_answers_with_its_own_model_and_an_optional_one_with_the_runs(runs: Runs) -> None:
    settings, nodes = runs.settings("given"), runs.nodes("given")
    assert settings["roles"] == {"judge": {"name": "transformers", "pretrained": str(folder(llava))}}
    weights = settings["role_weights"]
    assert weights["judge"] != weights["summary"] == settings["policy_weights"]
    assert {(node["use"], node["role"]) for node in nodes} == {
        ("", "policy"),
        ("judge", "judge"),
        ("summary", "summary"),
    }


def test_a_served_role_is_asked_at_its_address_and_its_key_is_written_nowhere(runs: Runs) -> None:
    judged = [node["text"] for node in runs.nodes("served") if node["role"] == "judge"]
    assert judged == ["The judge agrees."] * 3
    asked = [body for body in runs.server.asked if "As judge" in json.dumps(body)]
    assert len(asked) == 3
    assert set(runs.server.keys) == {f"Bearer {KEY}"}
    settings = runs.settings("served")
    assert settings["roles"]["judge"]["name"] == "openai"
    assert settings["roles"]["summary"]["pretrained"] == str(folder(llava))
    files = [file for file in runs.home.rglob("*.json*") if file.is_file()]
    assert len(files) > 4
    assert not [file for file in files if KEY in file.read_text()]
    assert KEY not in runs.printed
