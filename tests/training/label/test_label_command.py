"""`atomthink label` as a user types it, on the embedded model; the files it leaves are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from atomthink_plugin.cli import main
from atomthink_plugin.tasks.capability.record_set import demo_chains
from atomthink_plugin.tasks.demo.questions import held_out
from atomthink_plugin.training.records import Chain, read_records


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def adds_up(summary: dict[str, Any]) -> bool:
    """Whether every record is somewhere, from the lines of the input to the steps of the output."""
    usable = summary["records"] - summary["records_rejected"]
    return (
        summary["samples"] in (0, usable)
        and summary["chains"] == usable - summary["samples_rejected"]
        and summary["chains"] == summary["labelled"] + summary["chains_rejected"]
        and summary["labelled"] == sum(summary["answers"].values())
        and summary["errors"] <= summary["labelled"]
    )


@pytest.mark.slow
def test_chains_with_faults_among_them_are_labelled_both_ways(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    whole, other = (chain.model_dump() for chain in demo_chains(held_out(2, 5), folder))
    (folder / "broken.png").write_bytes(b"no picture")
    wrong = [*whole["steps"][:-1], f"Step {len(whole['steps'])}: To sum up, the final answer is: 999."]
    kinds = [None] * (len(wrong) - 1) + ["reasoning"]
    lines = [
        whole,
        whole | {"id": "wrong", "steps": wrong, "error_kinds": kinds},
        other | {"id": "empty", "steps": []},
        other | {"id": "labelled", "labels": [1] * len(other["steps"])},
        other | {"id": "mismatch", "labels": [1]},
        other | {"id": "broken", "images": ["broken.png"]},
        other | {"id": "unanswered", "answer": ""},
        whole,
    ]
    file, out = folder / "chains.jsonl", tmp_path / "out" / "labels.jsonl"
    file.write_text("\n".join([*map(json.dumps, lines), "{not JSON"]))
    common = ["label", str(file), "--rollouts", "2", "--model_args", f"journal={tmp_path / 'journal'}", "--out"]

    assert main([*common, str(out), "--method", "monte_carlo", "--soft"]) == 0
    soft = read_records(out, Chain)  # from another folder: the images are found
    assert [chain.id for chain in soft.records] == [whole["id"], "wrong"]
    assert [chain.labels and chain.labels[-1] for chain in soft.records] == [1.0, 0.0]
    assert soft.records[0].labels is not None
    assert soft.records[0].labels[:-1] == (soft.records[1].labels or ())[:-1]
    assert set(soft.records[0].labels) <= {0.0, 0.5, 1.0}
    reasons = [reject["reason"].split(":")[0] for reject in read(out.with_name("labels.rejects.jsonl"))]
    twice = f"the id {whole['id']!r} occurred before"
    assert set(reasons) == {"steps", "record", "image broken.png", "answer", "labels", twice, "no JSON"}
    assert len(reasons) == 7
    (summary,) = read(out.with_name("labels.summary.json"))
    assert (summary["records"], summary["records_rejected"], summary["chains_rejected"]) == (9, 5, 2)
    assert adds_up(summary)
    assert summary["answers"] == {"the right": 1, "a wrong": 1}
    assert sum(summary["steps"].values()) == 2 * len(whole["steps"])
    # The two chains share all prefixes that do not conclude.
    assert summary["rolling"]["samples"] == 2 * (len(whole["steps"]) - 1)
    assert summary["rolling"]["usage"]["generated"] > summary["rolling"]["samples"]

    found = tmp_path / "omega.jsonl"
    assert main([*common, str(found)]) == 0
    right, ends_wrong = read_records(found, Chain).records
    assert right.labels == (1.0,) * len(right.steps)
    assert (right.error_kinds, ends_wrong.error_kinds) == (None, tuple(kinds))
    error = ends_wrong.first_error()
    assert error is not None
    assert ends_wrong.labels == (*[1.0] * error, 0.0, *[None] * (len(wrong) - error - 1))
    shares = soft.records[1].labels
    assert shares is not None
    assert shares[error] == 0
    assert error == 0 or (shares[error - 1] or 0) > 0
    (summary,) = read(found.with_name("omega.summary.json"))
    # Its samples are among those of the first run, which the journal has.
    assert 0 < summary["rolling"]["resumed"] == summary["rolling"]["samples"]
    assert adds_up(summary)


@pytest.mark.slow
def test_questions_are_sampled_first(tmp_path: Path) -> None:
    records = [chain.model_dump(exclude={"steps"}) for chain in demo_chains(held_out(2, 6), tmp_path)]
    file, out = tmp_path / "questions.jsonl", tmp_path / "labels.jsonl"
    file.write_text("\n".join(map(json.dumps, [*records, {"id": "unanswered", "question": "How many?"}])))
    arguments = ["--rollouts", "1", "--sample", "1", "--temperature", "0", "--model_args", "journal=off"]
    assert main(["label", str(file), "--out", str(out), *arguments]) == 0
    chains = read_records(out, Chain).records
    assert [chain.id for chain in chains] == [f"{record['id']}/0" for record in records]
    for chain in chains:
        assert chain.labels is not None
        assert chain.steps[0].startswith("Step 1: Read ")
        error = chain.first_error()
        assert (error is None) == (f"the final answer is: {chain.answer}." in chain.steps[-1])
    (summary,) = read(out.with_name("labels.summary.json"))
    assert (summary["records"], summary["records_rejected"], summary["samples"]) == (3, 1, 2)
    assert adds_up(summary)
    (reject,) = read(out.with_name("labels.rejects.jsonl"))
    assert reject["reason"].startswith("answer: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.jsonl", "--out", "o.jsonl"], "none.jsonl"),
        (["in.jsonl", "--out", "in.jsonl"], "`--out in.jsonl`"),
        (["in.jsonl", "--out", "o.jsonl", "--rollouts", "0"], "--rollouts"),
        (["in.jsonl", "--out", "o.jsonl", "--sample", "0"], "--sample"),
        (["in.jsonl", "--out", "o.jsonl", "--soft"], "`--method monte_carlo`"),
        (["in.jsonl", "--out", "o.jsonl", "--temperature", "1"], "`--sample`"),
        (["in.jsonl", "--out", "o.jsonl"], "1 rejected; the first: in.jsonl:1: steps"),
        (["bad.jsonl", "--out", "o.jsonl", "--sample", "1"], "1 rejected; the first: bad.jsonl:1: "),
        (["good.jsonl", "--out", "o.jsonl", "--model", "gpt"], "`model=gpt`"),
        (["good.jsonl", "--out", "o.jsonl", "--model_args", "search=beam"], "`search=beam`"),
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
    question = {"id": "a", "question": "?", "answer": "5"}
    Path("in.jsonl").write_text(json.dumps(question))
    Path("good.jsonl").write_text(json.dumps(question | {"steps": ["Look."]}))
    Path("bad.jsonl").write_text(json.dumps({"id": "a"}))
    assert main(["label", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not Path("o.jsonl").exists()
