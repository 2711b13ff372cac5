"""`atomthink atoms` as a user types it."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from atomthink_plugin.cli import main


def test_a_set_of_the_demo_is_built_and_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, numbers, chart = tmp_path / "set.jsonl", tmp_path / "numbers.json", tmp_path / "chart.html"
    assert main(["atoms", "build", "demo", "--limit", "3", "--out", str(made)]) == 0
    assert "read teal" in capsys.readouterr().out
    records = [json.loads(line) for line in made.read_text().splitlines()]
    assert {record["chain"] for record in records} == {f"demo{n}" for n in range(3)}
    assert (tmp_path / records[0]["images"][0]).is_file()

    files = ["--json", str(numbers), "--html", str(chart)]
    assert main(["atoms", "evaluate", str(made), "--rollouts", "2", "--limit", "2", *files]) == 0
    report = json.loads(numbers.read_text())
    kept = [record for record in records if record["chain"] != "demo2"]
    assert (report["rollouts"], report["failed"]) == (2, 0)
    assert report["prefixes"] == len(kept) + 2  # one control for each chain
    rows = {row["name"]: row for row in report["rows"]}
    assert list(rows)[:3] == ["Data Extraction", "Calculation", "Decision Making"]
    assert rows["all"]["records"] == len(kept)
    assert rows["Decision Making"]["utilisation"] is None
    assert rows["Decision Making"]["quality"]["value"] >= rows["Calculation"]["quality"]["value"]
    printed = capsys.readouterr().out
    assert f"{rows['all']['quality']['value'] * 100:.0f} [" in printed
    page = chart.read_text()
    svg = ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    space = "{http://www.w3.org/2000/svg}"
    assert len(svg.findall(f"{space}circle")) == 3
    names, values = (
        [text.text for text in svg.iter(f"{space}text") if text.get("class") == it] for it in (None, "value")
    )
    assert names == list(rows)[:3]
    assert values == [f"{rows[name]['quality']['value']:.0%}" for name in names]
    assert "light-dark(" in page  # the colours of the viewer, for both schemes


@pytest.mark.slow
def test_the_same_evaluation_gives_the_same_numbers_in_any_batch(tmp_path: Path) -> None:
    made = tmp_path / "set.jsonl"
    assert main(["atoms", "build", "demo", "--limit", "1", "--out", str(made)]) == 0
    rows = []
    for batch in ("batch_size=128", "batch_size=3,concurrency=1"):
        file = tmp_path / "numbers.json"
        arguments = ["--rollouts", "2", "--json", str(file), "--model_args", batch]
        assert main(["atoms", "evaluate", str(made), *arguments]) == 0
        rows.append(json.loads(file.read_text())["rows"])
    assert rows[0] == rows[1]


def test_chains_of_ones_own_with_abilities_of_ones_own(tmp_path: Path) -> None:
    chains = tmp_path / "in" / "chains.jsonl"
    chains.parent.mkdir()
    row = {
        "id": 1,
        "question": "2 + 3?",
        "steps": ["Add 2 + 3 = 5.", "The answer is 5."],
        "answer": 5,
        "source": "mine",
    }
    chains.write_text(json.dumps(row))
    abilities = tmp_path / "abilities.json"
    adding = {"description": "adds", "keywords": ["add"]}
    abilities.write_text(json.dumps({"groups": {"Sums": {"Adding": adding}}}))
    made = tmp_path / "set.jsonl"
    assert main(["atoms", "build", str(chains), "--taxonomy", str(abilities), "--out", str(made)]) == 0
    (record,) = map(json.loads, made.read_text().splitlines())
    assert (record["id"], record["ability"], record["history"]) == ("1/1", "Adding", ["Add 2 + 3 = 5."])
    assert main(["atoms", "evaluate", str(made)]) == 2  # the published taxonomy has no such ability


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "none.jsonl", "--out", "set.jsonl"], "none.jsonl"),
        (
            ["build", "demo", "--out", "nowhere/set.jsonl"],
            "`--out nowhere/set.jsonl`",
        ),
        (["build", "demo", "--limit", "0", "--out", "set.jsonl"], "--limit"),
        (["build", "demo", "--labeller", "llm", "--out", "set.jsonl"], "`--labeller-model`"),
        (["evaluate", "none.jsonl"], "none.jsonl"),
        (["evaluate", "set.jsonl"], "'Telepathy'"),
        (["evaluate", "set.jsonl", "--rollouts", "0"], "--rollouts"),
        (["evaluate", "set.jsonl", "--html", "nowhere/chart.html"], "`--html nowhere/chart.html`"),
        (["evaluate", "known.jsonl", "--model", "gpt"], "`model=gpt`"),
        (["evaluate", "known.jsonl", "--model_args", "thinking=slow"], "`thinking=slow`"),
        (["evaluate", "known.jsonl", "--model_args", "temprature=1"], "`temprature"),
    ],
)
def test_bad_input_is_explained(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    record = {"id": "a/1", "chain": "a", "question": "?", "answer": "5", "history": ["Look."]}
    for name, ability in (("set", "Telepathy"), ("known", "Calculation")):
        Path(f"{name}.jsonl").write_text(json.dumps({**record, "ability": ability}))
    assert main(["atoms", *arguments]) == 2
    assert message in capsys.readouterr().err
