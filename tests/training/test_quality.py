"""Statistics of chains against counts by hand, and the scores of a judge over HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean, median

import pytest

from atomthink_plugin.cli import main
from atomthink_plugin.training.records import Chain, write_records
from tests.openai_server import Body, ChatServer, pieces_of, serve, text_of

GOOD = ("Step 1: Read red = 4.", "Step 2: To sum up, the final answer is: 4.")
SCORES = {"0": 0, "1": 89, "2": 90, "3": 100}


class Judge(ChatServer):
    """Scores questions by their number. The fifth gets a score that is too high to be valid."""

    def choice(self, body: Body, index: int) -> tuple[Body, int]:
        number = text_of(body["messages"][1]["content"]).split("QUESTION:\n")[1][0]
        text = json.dumps({"score": SCORES.get(number, 101), "reason": "so"})
        return {"index": index, "message": {"content": text}, "finish_reason": "stop"}, len(pieces_of(text))


@pytest.mark.slow
def test_a_judge_that_the_server_does_not_have_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    write_records(tmp_path / "chains.jsonl", [Chain(id="0", question="0?", steps=GOOD, answer="4")])
    with serve(Judge(models=("another",))) as script:
        asked = ["--judge-model", "scripted", "--base-url", script.url]
        assert main(["data", "quality", str(tmp_path / "chains.jsonl"), *asked]) == 2
    assert "`--judge-model scripted`" in capsys.readouterr().err


@pytest.mark.slow
def test_chains_are_counted_and_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    chains = [
        Chain(id="0", question="0?", steps=GOOD, answer="4"),
        Chain(id="1", question="1?", steps=GOOD, answer="5"),
        Chain(
            id="2", question="2?", steps=(GOOD[0], GOOD[0].replace("1", "2"), "Step 3: The answer is 4."), answer="4"
        ),
        Chain(id="3", question="3?", steps=("Read red = 4.",), answer="4"),
        Chain(id="4", question="4?", steps=("Step 1: The final answer is: 7.",)),
    ]
    write_records(tmp_path / "chains.jsonl", chains)
    with serve(Judge(context=10**6)) as script:
        asked = ["--judge-model", "scripted", "--base-url", script.url, "--json", str(tmp_path / "report.json")]
        assert main(["data", "quality", str(tmp_path / "chains.jsonl"), *asked]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    counted = report["statistics"]
    texts = ["\n\n".join(chain.steps) for chain in chains]
    with serve(Judge(context=10**6)) as script:
        asked = [*asked[:3], script.url, *asked[4:], "--max-tokens-total", "2500"]
        assert main(["data", "quality", str(tmp_path / "chains.jsonl"), *asked]) == 0
    limited = json.loads((tmp_path / "report.json").read_text())
    assert limited["statistics"] == counted
    assert 0 < limited["judge"]["judged"] < 5
    assert limited["judge"]["judged"] + limited["judge"]["failed"] == 5
    assert any("--max-tokens-total 2500" in reason for reason in limited["failures"].values())
    assert limited["tokens_spent"] <= 2500
    assert counted["chains"] == 5
    assert counted["steps"] == 9
    assert counted["characters_per_chain"] == fmean(map(len, texts))
    assert counted["well_formed"] == 4 / 5
    assert counted["repeated_steps"] == 1 / 9
    assert counted["distinct_answers"] == 2
    assert counted["right_answers"] == 2 / 4
    judged = report["judge"]
    assert report["scores"] == SCORES
    assert list(report["failures"]) == ["4"]
    assert (judged["judged"], judged["failed"]) == (4, 1)
    assert (judged["mean"], judged["median"]) == (fmean(SCORES.values()), median(SCORES.values()))
    assert {band: n for band, n in judged["distribution"].items() if n} == {"0-9": 1, "80-89": 1, "90-100": 2}


def test_rejects_are_counted_by_their_reasons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_records(tmp_path / "chains.jsonl", [Chain(id="0", question="0?", steps=GOOD)])
    with (tmp_path / "chains.jsonl").open("a") as file:
        file.write('{"id": "1", "question": "?", "steps": []}\n{"id": "2", "question": "?", "steps": []}\n[1]\n')
    assert main(["data", "quality", str(tmp_path / "chains.jsonl")]) == 0
    report = json.loads(capsys.readouterr().out)["statistics"]
    assert (report["chains"], report["rejected"], list(report["rejects"].values())) == (1, 3, [2, 1])
    assert next(iter(report["rejects"])).startswith("steps: ")
