"""`--method corrupt` over HTTP: wrong versions of right steps, and what is no right chain."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from atomthink_plugin.cli import main
from atomthink_plugin.training.records import Chain, read_records
from tests.openai_server import Body, serve
from tests.training.annotate.teacher_server import TeacherServer, command, lines, summary


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


class Spoiler(TeacherServer):
    """Writes wrong steps: the second says the same again, the third is not believed by the second check."""

    def says(self, body: Body) -> str:
        system, told = body["messages"][0]["content"], body["messages"][1]["content"]
        told = told if isinstance(told, str) else told[-1]["text"]
        if "WRITE WRONG VERSIONS" in told:
            numbers = [int(number) for number in told.rpartition("STEPS: ")[2].split(",")]
            texts = {
                1: "Step 1: Read red = 5.",
                2: "2 + 4 = 6 it is, 6.",
                3: "6 * 2 = 13.",
                4: "The final answer is: 9.",
            }
            texts[2] = "Read blue = 2"
            kinds = {1: "factual", 2: "calculation", 3: "calculation", 4: "logic"}
            return json.dumps({"steps": [{"number": n, "kind": kinds[n], "text": texts[n]} for n in numbers]})
        numbers = [int(part.split(":")[0]) for part in told.split("Version of step ")[1:]]
        return json.dumps({"wrong": [n for n in numbers if n != 3 or "numbered proposal" not in system]})


STEPS = ("Step 1: Read red = 4.", "Step 2: Read blue = 2.", "Step 3: 4 + 2 = 6.", "Step 4: The final answer is: 6.")


def chains(folder: Path, *given: dict[str, object]) -> Path:
    """A file of chains that differ from one another in what is given."""
    folder.mkdir()
    file = folder / "chains.jsonl"
    records = [{"id": str(k), "question": "How many?", "steps": STEPS, **one} for k, one in enumerate(given)]
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def test_a_chain_with_a_step_that_is_labelled_wrong_is_rejected(tmp_path: Path) -> None:
    right = {"labels": [1, None, 0.8, 1]}
    file = chains(tmp_path / "in", {"labels": [0, 1, 1, 1]}, right, {"labels": [1, 1, 0.4, 0]})
    with serve(Spoiler()) as script:
        assert main(command(file, tmp_path / "out", script.url, "--method", "corrupt")) == 0
    found = read_records(tmp_path / "out/chains.jsonl", Chain)
    assert {chain.id.split("/")[0] for chain in found.records} == {"1"}
    told = [one for one in lines(tmp_path / "out/rejects.jsonl") if one["stage"] == "input"]
    assert [(one["where"], one["reason"], one["detail"]) for one in told] == [
        ("0", "a step is labelled wrong", "step 1"),
        ("2", "a step is labelled wrong", "step 3"),
    ]
    assert summary(tmp_path / "out")["asked"] == 2 + len(STEPS)


def test_all_that_is_written_can_be_read_back(tmp_path: Path) -> None:
    file = chains(tmp_path / "in", {"id": " 7 ", "source": "book", "labels": [1, 1, 1, 1], "corrections": [None] * 4})
    with serve(Spoiler()) as script:
        assert main(command(file, tmp_path / "out", script.url, "--method", "corrupt")) == 0
    found = read_records(tmp_path / "out/chains.jsonl", Chain)
    assert not found.rejects
    assert len(found.records) == summary(tmp_path / "out")["chains"] == 4
    assert {one["source"] for one in lines(tmp_path / "out/chains.jsonl")} == {"book"}


def test_a_limit_is_one_of_chains(tmp_path: Path) -> None:
    file = chains(tmp_path / "in", {}, {}, {})
    with serve(Spoiler()) as script:
        assert main(command(file, tmp_path / "one", script.url, "--method", "corrupt", "--limit", "1")) == 0
        calls = script.billed["calls"]
        assert main(command(file, tmp_path / "all", script.url, "--method", "corrupt")) == 0
        assert script.billed["calls"] == calls + 3 * calls
    assert {chain.id.split("/")[0] for chain in read_records(tmp_path / "one/chains.jsonl", Chain).records} == {"0"}
    assert summary(tmp_path / "one")["asked"] == len(STEPS)


def test_wrong_steps_differ_from_the_right_ones_and_are_checked(tmp_path: Path) -> None:

    (tmp_path / "in").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "in/p.png")
    chain = Chain(id="c", question="How many?", images=("p.png",), steps=STEPS, answer="6")
    with (tmp_path / "in/chains.jsonl").open("w") as file:
        file.write(json.dumps(chain.model_dump(exclude_none=True) | {"source": "book"}) + "\n")
        file.write('{"id": "empty", "question": "?", "steps": []}\n')
    with serve(Spoiler()) as script:
        typed = command(tmp_path / "in/chains.jsonl", tmp_path / "out", script.url, "--method", "corrupt")
        assert main(typed) == 0
    found = read_records(tmp_path / "out/chains.jsonl", Chain)
    told = {chain.id: (chain.steps, chain.labels) for chain in found.records}
    assert told == {
        "c/1/right": (STEPS[:1], (1.0,)),
        "c/1/wrong": (("Step 1: Read red = 5.",), (0.0,)),
        "c/4/right": (STEPS, (None, None, None, 1.0)),
        "c/4/wrong": ((*STEPS[:3], "Step 4: The final answer is: 9."), (None, None, None, 0.0)),
    }
    assert {one["source"] for one in lines(tmp_path / "out/chains.jsonl")} == {"book"}
    rejects = {one["where"]: (one["stage"], one["reason"]) for one in lines(tmp_path / "out/rejects.jsonl")}
    assert rejects == {
        "chains.jsonl:2": ("input", "no chain"),
        "c/2": ("format", "same words as the right step"),
        "c/3": ("check", "the teacher's check does not call it wrong"),
    }
    assert summary(tmp_path / "out")["asked"] == 5
