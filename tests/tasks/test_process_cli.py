"""The tasks of critics on lmms-eval's command line, for a process reward model and for a prompted model."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
import yaml

from atomthink_plugin.cli import main
from atomthink_plugin.model_adapters.tiny import WEIGHTS
from tests import commands
from tests.openai_server import Body, ChatServer, generate, serve, text_of
from tests.step_metrics.published_records import SUBSETS, write_published
from tests.tasks.cli import results, samples

pytestmark = pytest.mark.slow

PRM = str(WEIGHTS / "prm")
FILES = {
    **{f"processbench_{subset}": f"Qwen/ProcessBench/{subset}.json" for subset in SUBSETS},
    "visualprocessbench": "OpenGVLab/VisualProcessBench/test.jsonl",
    "prmbench": "hitsmy/PRMBench_Preview/prmbench_preview.jsonl",
}
REPEATS = 3


class Critic(ChatServer):
    """Replies to the prompts of the three benchmarks; repeats of one request may differ."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.counting = Lock()

    def choice(self, body: Body, index: int) -> tuple[Body, int]:
        asked = text_of(body["messages"][-1]["content"])
        with self.counting:
            repeat = self.counts[asked]
            self.counts[asked] += 1
        text, pieces, finish = generate(verdict(asked, repeat), body.get("stop", []), body[self.limit_name])
        return {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": finish}, len(pieces)


def verdict(asked: str, repeat: int) -> str:
    """What the model says about one solution."""
    if sums := re.search(r"What is (\d) plus", asked):
        number = int(sums[1])
        index = [[0, 0, 0], [0, 0, 1], [-1, -1, -1]]  # by number and repeat
        thought = "<think>Is it \\boxed{7}?</think>"
        return f"{thought} It is \\boxed{{{index[number][repeat]}}}." if number < len(index) else "I cannot tell."
    if figure := re.search(r"has figure (\d) of (\w+)", asked):
        score = [1, 1, 1] if figure[2] == "MMMU" else [[1, 0, 1], [1, 0, 1], [1]][int(figure[1])]
        return f'Here you are: {{"Score": {score}}}'
    steps = len(re.findall(r"^(?: Solutions: )?Step \d+:", asked, re.MULTILINE))
    return json.dumps({"validity": [1] * steps, "redundancy": [-1, 1, -1][:steps]})


class Runs:
    """The finished runs: a folder each with results and samples, and what the command printed."""

    def __init__(self, home: Path, data: Path, log: str, status: int, asked: list[Body]) -> None:
        self.home, self.data, self.log, self.status, self.asked = home, data, log, status, asked

    def numbers(self, run: str, task: str) -> dict[str, Any]:
        found = results(self.home / run)["results"]
        assert task in found, self.log
        return {name.removesuffix(",none"): value for name, value in found[task].items() if name.endswith(",none")}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    home = tmp_path_factory.mktemp("process")
    data = write_published(home / "data")
    prm_args = f"prm={PRM},journal={home / 'journal'}"
    with serve(Critic()) as server:
        chat = f"pretrained=scripted,base_url={server.url},thinking=direct,journal=off"
        planned: list[dict[str, Any]] = [
            {"model": "atomthink_prm", "model_args": prm_args, "tasks": "processbench,visualprocessbench,prmbench"},
            {"model": "atomthink_prm", "model_args": f"{prm_args},threshold=0.9,strict=True", "tasks": "prmbench"},
            {
                "model": "atomthink_openai",
                "model_args": chat,
                "tasks": "processbench_gsm8k,visualprocessbench,prmbench",
                "repeats": REPEATS,
                "gen_kwargs": "temperature=1",
            },
            {"model": "atomthink_prm", "model_args": prm_args, "tasks": "atomthink_demo", "limit": 1},
        ]
        named = zip(("prm", "strict", "prompted", "refused"), planned, strict=True)
        written = [{**run, "log_samples": True, "output_path": str(home / name / "out")} for name, run in named]
        (home / "runs.yaml").write_text(yaml.safe_dump(written))
        env = commands.environment(home / "cache", {"OPENAI_API_KEY": "EMPTY"})
        done = commands.run("lmms-eval", "--config", home / "runs.yaml", cwd=data, env=env)
        yield Runs(home, data, done.stdout + done.stderr, done.returncode, server.sampled())


def test_a_prm_has_the_numbers_of_prm_eval(runs: Runs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On the same scores: `prm eval` continues the file that the run kept, and scores nothing."""
    monkeypatch.chdir(runs.data)
    (kept,) = runs.home.glob("journal/prm-*/scores_rank0.jsonl")
    before = kept.read_bytes()
    for task, file in FILES.items():
        report = tmp_path / f"{task}.json"
        assert main(["prm", "eval", file, "--prm", PRM, "--scores", str(kept), "--json", str(report)]) == 0
        found = runs.numbers("prm", task)["report"]
        assert found.pop("invalid_reasons") == {}
        expected = json.loads(report.read_text())
        assert found == {name: expected[name] for name in found}
        assert found.keys() == expected.keys() - {"set", "prm", "threshold"}
    assert kept.read_bytes() == before
    keys = [json.loads(line)["key"] for line in before.splitlines()[1:]]
    # The second run read the first one's scores. The three classes of a PRMBench problem have the same text here.
    assert len(keys) == len(set(keys)) == 4 * len(SUBSETS) + 15 + 2 + 2


def test_the_headlines_are_parts_of_the_report(runs: Runs) -> None:
    found = runs.numbers("prm", "visualprocessbench")
    assert found["overall_pooled"] == found["report"]["steps"]["all"]["macro_f1"]["value"]
    assert found["critic"]["overall_mean"] == pytest.approx(found["report"]["steps"]["mean"]["value"], abs=1e-4)
    assert (found["critic"]["right_if_score"], found["critic"]["threshold_chosen_on"]) == (">= 0.5", "fixed")
    assert set(found["critic"]["sources"]) == {"MathVerse", "MathVision", "DynaMath", "WeMath", "MMMU"}
    subsets = [runs.numbers("prm", f"processbench_{subset}")["first_error_f1"] for subset in SUBSETS]
    group = results(runs.home / "prm")["groups"]["processbench"]["first_error_f1,none"]
    assert group == pytest.approx(sum(subsets) / 4)
    prmbench = runs.numbers("prm", "prmbench")
    assert prmbench["prmscore"] == prmbench["report"]["prm_score"]["all"]["score"]["value"]


def test_a_threshold_of_the_run_is_used_and_named(runs: Runs) -> None:
    assert runs.numbers("strict", "prmbench")["critic"]["right_if_score"] == "> 0.9"
    for sample in samples(runs.home / "strict", "prmbench"):
        line = sample["report"]
        assert line["verdicts"] == [score > 0.9 for score in line["scores"]]


def test_samples_have_the_reply_and_what_was_read(runs: Runs) -> None:
    for sample in samples(runs.home / "prm", "visualprocessbench"):
        (said,) = sample["filtered_resps"]
        assert json.loads(said) == {"scores": sample["report"]["scores"], "threshold": 0.5, "strict": False}
        assert sample["target"] == "".join(
            {True: "1", False: "0", None: "?"}[one] for one in sample["report"]["labels"]
        )
        assert sample["token_counts"][0]["score_calls"] == 3


def test_a_prompted_model_is_asked_in_the_published_wording_with_all_images(runs: Runs) -> None:
    visual = [body for body in runs.asked if "has figure 2 of DynaMath" in text_of(body["messages"][-1]["content"])]
    assert len(visual) == REPEATS
    system, user = visual[0]["messages"]
    assert system["role"] == "system"
    assert [part["type"] for part in user["content"]] == ["image_url", "image_url", "text"]
    prmbench = [body for body in runs.asked if len(body["messages"]) == 6]
    assert len(prmbench) == (6 + 2) * REPEATS


def test_votes_and_invalid_replies_of_a_prompted_model(runs: Runs) -> None:
    # The vote finds the error of record 0 and not that of 1, and no error in 2; 3 has no usable reply.
    found = runs.numbers("prompted", "processbench_gsm8k")["critic"]
    assert (found["accuracy_error"], found["accuracy_correct"], found["first_error_f1"]) == (0.5, 0.5, 0.5)
    assert (found["invalid"], found["of"], found["vote"]) == (3, 12, "maj@3")
    # The third replies find both errors.
    assert found["first_error_f1_of_single_replies"] == pytest.approx((0.5 + 0.5 + 2 / 3) / 3, abs=1e-4)
    assert "right_if_score" not in found


def test_the_three_overall_numbers_of_a_prompted_model(runs: Runs) -> None:
    # Four sources: 6 right steps, of which 3 judged right, 1 wrong, 2 not at all; 2 wrong ones, 1 judged wrong.
    # MMMU, where all is judged right: 6 right steps, 2 wrong ones.
    found = runs.numbers("prompted", "visualprocessbench")
    one, mmmu = (2 * 3 / (6 + 3 + 1) + 2 * 1 / (2 + 1 + 1)) / 2, (2 * 6 / (6 + 6 + 2) + 0) / 2
    assert found["overall_pooled"] == pytest.approx((2 * 18 / (30 + 18 + 6) + 2 * 4 / (10 + 4 + 4)) / 2)
    assert found["critic"]["overall_mean"] == pytest.approx((4 * one + mmmu) / 5, abs=1e-4)
    assert found["critic"]["overall_weighted"] == pytest.approx((4 * one + mmmu) / 5, abs=1e-4)
    assert (found["critic"]["invalid"], found["critic"]["of"]) == (4 * REPEATS, 15 * REPEATS)
    assert set(found["report"]["invalid_reasons"]) == {"1 entries for 3 steps"}


def test_redundant_steps_of_prmbench(runs: Runs) -> None:
    # Circular: redundancy finds step 2 of both. Deception: validity calls all steps right.
    classes = runs.numbers("prompted", "prmbench")["report"]["prm_score"]["classes"]
    assert classes["circular"]["score"]["value"] == 1.0
    assert classes["deception"]["score"]["value"] == pytest.approx((2 * 1 / (1 + 3) + 0) / 2)
    assert classes["multi_solutions"]["score"]["value"] == 1.0


def test_tasks_without_steps_are_refused(runs: Runs) -> None:
    assert runs.status == 2
    assert "atomthink_demo" in runs.log.rpartition("atomthink: ")[2]
    assert not list(runs.home.glob("refused/**/*_results.json"))
