"""`atomthink prm eval` with real PRMs: the embedded one on demo chains with figures and on real text chains."""

from __future__ import annotations

import json
import logging
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from atomthink_plugin.api import AtomThinkError, QuestionError, Score
from atomthink_plugin.api import Path as StepPath
from atomthink_plugin.cli import main
from atomthink_plugin.config import scorer_plan
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.model_adapters.tiny import WEIGHTS
from atomthink_plugin.runtime.event_loop import run
from atomthink_plugin.scorers.prm_token import prm_token
from atomthink_plugin.step_metrics import bootstrap
from atomthink_plugin.tasks.demo.figures import draw
from atomthink_plugin.tasks.demo.questions import held_out
from atomthink_plugin.training.evaluate.readers import LabelledChain
from atomthink_plugin.training.evaluate.scores import score_chains
from atomthink_plugin.training.records import Chain, read_records, write_records
from atomthink_plugin.training.tiny.labels import slipped_steps, verdicts
from tests.tiny_models import causal_prm, folder, llava
from tests.training.evaluate.test_readers import CHAIN, STEPS, lines, real

EMBEDDED = str(WEIGHTS / "prm")


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "RESAMPLES", 10)


def demo_chains(target: Path, questions: int, each: int = 2) -> str:
    """Chains about held-out figures with their exact labels; half of them gold."""
    chance, chains = random.Random(4), []
    for index, question in enumerate(held_out(questions)):
        draw(question).save(target / f"{index}.png")
        for number, steps in enumerate((question.steps, *(slipped_steps(question, chance) for _ in range(each - 1)))):
            labels = tuple(map(float, verdicts(question, steps)))
            kinds = ("reasoning",) * len(steps)  # those of right steps do not count
            given: dict[str, Any] = {"question": question.text, "images": (f"{index}.png",), "steps": tuple(steps)}
            given |= {"labels": labels, "error_kinds": kinds}
            chains.append(Chain(id=f"{index}.{number}", answer=str(question.answer), **given))
    write_records(target / "demo.jsonl", chains)
    return str(target / "demo.jsonl")


def evaluated(source: str, target: Path, *options: str, prm: str = EMBEDDED) -> dict[str, Any]:
    report = target / "report.json"
    chosen = ["--prm", prm] if prm else []
    assert main(["prm", "eval", source, *chosen, "--json", str(report), *options]) == 0
    read: dict[str, Any] = json.loads(report.read_text())
    return read


@pytest.mark.slow
def test_the_embedded_prm_on_demo_chains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, scores = demo_chains(tmp_path, 12), tmp_path / "scores.jsonl"
    found = evaluated(source, tmp_path, "--scores", str(scores))
    assert found["error_recall"]["reasoning"]["count"] == found["set"]["steps"]["wrong"] > 0
    assert {key: found["set"][key] for key in ("format", "records", "used", "rejected", "chains", "scored")} == {
        "format": "chains",
        "records": 24,
        "used": 24,
        "rejected": 0,
        "chains": 24,
        "scored": 24,
    }
    assert found["prm"]["kind"] == "prm_token"
    default = evaluated(source, tmp_path, "--scores", str(scores), prm="")
    assert default == found
    assert found["ranking"]["pooled"]["value"] > 0.9
    assert found["first_error"]["all"]["f1"]["value"] > 0.4
    assert found["best_of_n"]["picked"]["mean"]["value"] > found["best_of_n"]["mean"]["value"]
    shown = capsys.readouterr().out
    assert f"{found['first_error']['all']['f1']['value']:.1%}".removesuffix("%") in shown
    assert f"scores: {scores}" in shown

    # The scores are those of the scorer on the paths a search would ask about, images read.
    chains = read_records(Path(source), Chain)
    prm = prm_token(EMBEDDED, batch_size=1, cache_gib=0)
    kept = [json.loads(line) for line in scores.read_text().splitlines()[1:]]
    different = {(chain.question, chain.images, chain.steps): chain.id for chain in reversed(chains.records)}
    assert {record["id"] for record in kept} == set(different.values())  # equal chains are scored once
    for chain in chains.records[:3]:
        said = next(record["scores"] for record in kept if record["id"] == chain.id)
        asked = [run(prm.score(path)).value for path in chain.paths(chains.question(chain), Continue())]
        assert said == pytest.approx(asked, abs=1e-4)

    # A second time, nothing is scored again. On other data, the threshold is chosen there, never on the same data.
    before = scores.read_bytes()
    again = evaluated(source, tmp_path, "--scores", str(scores))
    assert scores.read_bytes() == before
    assert again == found
    (tmp_path / "other").mkdir()
    records = [{**CHAIN, "id": "right", "labels": [1.0, 1.0]}, {**CHAIN, "id": "wrong", "labels": [0.0, None]}]
    other = lines(tmp_path / "other", records)
    chosen = evaluated(source, tmp_path, "--scores", str(scores), "--threshold-from", other)
    assert chosen["threshold"]["chosen_on"] == other
    assert main(["prm", "eval", source, "--prm", EMBEDDED, "--threshold-from", source]) == 2
    assert "--threshold-from" in capsys.readouterr().err


@real
def test_the_embedded_prm_on_real_chains(tmp_path: Path) -> None:
    """Text it was not made for: every chain gets its scores, whatever they are worth."""
    found = evaluated(str(STEPS / "bigbench_mistake.jsonl"), tmp_path, "--limit", "6")
    assert found["set"]["scored"] == found["set"]["records"] == 6
    assert sum(found["set"]["steps"].values()) == 28
    assert found["first_error"]["all"]["wrong"]["count"] + found["first_error"]["all"]["right"]["count"] == 6


@pytest.fixture
def pictured(tmp_path: Path) -> str:
    return demo_chains(tmp_path, 2)


def test_a_prm_that_reads_text_alone(pictured: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = evaluated(
            pictured, tmp_path, "--scorer", "prm_token", "--prm-args", "prm_device=cpu", prm=str(folder(causal_prm))
        )
    assert found["set"]["scored"] == 4
    assert sum(record.name.endswith("scored_step") for record in caplog.records) == 1


def test_rejects_are_written_and_counted(pictured: str, tmp_path: Path) -> None:
    with Path(pictured).open("a") as file:
        file.write('{"id": "x", "question": "Q?", "steps": [], "labels": []}\n')
    options = ("--rejects", str(tmp_path / "rejects.jsonl"), "--prm-args", "prm_batch_size=4,prm_dtype=float32")
    found = evaluated(pictured, tmp_path, *options)
    assert (found["set"]["records"], found["set"]["used"], found["set"]["rejected"]) == (5, 4, 1)
    (reject,) = map(json.loads, (tmp_path / "rejects.jsonl").read_text().splitlines())
    assert (reject["where"], reject["reason"][:6]) == ("demo.jsonl:5", "steps:")


def test_a_chain_that_cannot_be_scored_counts_as_judged_neither_right_nor_wrong(pictured: str, tmp_path: Path) -> None:
    long = {"id": "long", "question": "How many? " * 3000, "steps": ["Step 1: Read 4."], "labels": [1.0]}
    before = evaluated(pictured, tmp_path)
    with Path(pictured).open("a") as file:
        file.write(json.dumps(long) + "\n")
    found = evaluated(pictured, tmp_path)
    assert list(found["set"]["failed"]) == ["long"]
    assert found["invalid"] == {"solutions": 1, "steps": 1}
    steps, earlier = found["steps"]["all"], before["steps"]["all"]
    assert steps["accuracy"]["count"] == earlier["accuracy"]["count"] + 1
    assert steps["f1_wrong"]["value"] == earlier["f1_wrong"]["value"]
    assert steps["f1_right"]["value"] < earlier["f1_right"]["value"]


def test_misjudged_chains_are_written_worst_first(pictured: str, tmp_path: Path) -> None:
    chains = read_records(Path(pictured), Chain).records
    # The embedded PRM is right about most of these steps: with the opposite labels they are misjudged.
    flipped = [c.model_copy(update={"labels": tuple(1 - (label or 0) for label in c.labels or ())}) for c in chains]
    write_records(Path(pictured), flipped)
    with Path(pictured).open("a") as file:
        file.write('{"id": "x", "question": "Q?", "steps": [], "labels": []}\n')
    (tmp_path / "out").mkdir()
    out, kept = tmp_path / "out/hard.jsonl", tmp_path / "scores.jsonl"
    assert main(["prm", "mine", pictured, "--out", str(out), "--scores", str(kept)]) == 0
    scores = {record["id"]: record["scores"] for record in map(json.loads, kept.read_text().splitlines()[1:])}
    worst = {c.id: max(abs(s - (y or 0)) for s, y in zip(scores[c.id], c.labels or (), strict=True)) for c in flipped}
    mined = read_records(out, Chain)  # its images are found from its own folder
    expected = sorted((name for name in worst if worst[name] > 0.5), key=lambda name: -worst[name])
    assert [chain.id for chain in mined.records] == expected
    assert mined.records
    (reject,) = map(json.loads, (tmp_path / "out/hard.rejects.jsonl").read_text().splitlines())
    assert reject["where"] == "demo.jsonl:5"


def test_reasons_of_rejects_are_logged_without_a_file_for_them(
    pictured: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = [f'{{"id": "{at}", "question": "Q?", "steps": [], "labels": []}}' for at in range(3)]
    bad += [json.dumps({**CHAIN, "id": f"x{at}", "images": [f"{at}-none.png"]}) for at in range(11)]
    with Path(pictured).open("a") as file:
        file.write("\n".join(bad) + "\n")
    with caplog.at_level(logging.WARNING):
        evaluated(pictured, tmp_path)
    logged = [record.message for record in caplog.records]
    assert sum(message.startswith("       3  steps: ") for message in logged) == 1
    assert sum("none.png: FileNotFoundError" in message for message in logged) == 9
    assert [message.split()[0] for message in logged if "--rejects" in message] == ["2"]  # reasons that are not shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--threshold", "2"], "--threshold"),
        (["--threshold", "0.5", "--threshold-from", "other"], "--threshold-from"),
        (["--threshold", "best"], "--threshold"),
        (["--limit", "0"], "--limit"),
        (["--prm-args", "prm_dtpye=float32"], "did you mean `prm_dtype`"),
        (["--scorer", "nothing"], "`scorer=nothing` is unknown"),
        (["--json", "nowhere/report.json"], "`--json nowhere/report.json`"),
    ],
)
def test_bad_input_is_explained(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prm", "eval", lines(tmp_path, [CHAIN]), "--prm", EMBEDDED, *options]) == 2
    assert message in capsys.readouterr().err


def test_a_set_without_labels_or_a_prm_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prm", "eval", lines(tmp_path, [{**CHAIN, "labels": [None, None]}]), "--prm", EMBEDDED]) == 2
    assert "set.jsonl" in capsys.readouterr().err
    assert main(["prm", "eval", lines(tmp_path, [CHAIN]), "--scorer", "confidence"]) == 2
    assert "prm=" in capsys.readouterr().err


def test_a_prm_may_be_served(tmp_path: Path) -> None:
    served = {"prm_base_url": "http://localhost:1/v1"}
    likelihood = tmp_path / "likelihood"  # no server gives the likelihood of a step cheaply
    shutil.copytree(EMBEDDED, likelihood)
    config = json.loads((likelihood / "config.json").read_text())
    section = {"kind": "likelihood", "format": "continue", "scale": 0.02, "bias": 1.5}
    (likelihood / "config.json").write_text(json.dumps(config | {"atomthink_prm": section}))
    assert scorer_plan({"prm": str(folder(llava)), "scorer": "served_prm_token", **served}).kind == "served_prm_token"
    with pytest.raises(AtomThinkError, match="leave out prm_base_url="):
        scorer_plan({"prm": str(likelihood), **served})


def test_a_set_that_cannot_be_scored_at_all_is_an_error() -> None:
    items = [LabelledChain(Chain(id="a", question="Q?", steps=("One.",), labels=(1.0,)), "q")]
    with pytest.raises(AtomThinkError, match=r"1 of 1 chains .* too long"):
        score_chains(items, Unreadable())


class Unreadable:
    """A scorer that cannot read anything."""

    identity = "unreadable"

    async def score(self, path: StepPath) -> Score:
        raise QuestionError("too long")
