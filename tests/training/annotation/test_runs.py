"""Whole runs over HTTP: killed and gone on with, stopped by a limit, servers without JSON, wrong steps, bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.cli import main
from atomthink_plugin.training.annotation.command import LIMIT_REACHED
from atomthink_plugin.training.annotation.questions import read_items
from atomthink_plugin.training.chains import Chain, read_chains
from tests.openai_server import Body, serve
from tests.training.annotation.teaching import DYNAMIC, TeacherServer, lines, summary
from tests.training.damaged import LATIN, append, oversized

HABITS = [habit for habit in DYNAMIC if habit != "disconnects"]
OUTPUTS = ("chains.jsonl", "rejects.jsonl")


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def questions(folder: Path, count: int) -> Path:
    """A file of questions, each with a small picture; number k is answered by 10 k."""
    folder.mkdir(exist_ok=True)
    records = []
    for k in range(count):
        Image.new("RGB", (8, 8), (k, 0, 0)).save(folder / f"{k}.png")
        records.append({"id": k, "question": f"What is number {k}?", "image": f"{k}.png", "answer": 10 * k})
    file = folder / "questions.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def teacher(count: int, **given: object) -> TeacherServer:
    texts = [f"What is number {k}?" for k in range(count)]
    return TeacherServer(
        habits={text: HABITS[k % len(HABITS)] for k, text in enumerate(texts)},
        answers={text: str(10 * k) for k, text in enumerate(texts)},
        **given,  # type: ignore[arg-type]
    )


def command(file: Path, out: Path, url: str, *more: str) -> list[str]:
    fixed = ["--teacher-model", "teacher", "--base-url", url, "--max-steps", "6", "--wait", "0", "--concurrency", "4"]
    return ["annotate", str(file), "--out", str(out), *fixed, *more]


def contents(out: Path) -> list[str]:
    return [(out / name).read_text() for name in OUTPUTS]


def test_a_killed_run_goes_on_without_asking_anything_twice(tmp_path: Path) -> None:
    count = 20
    file = questions(tmp_path / "in", count)
    with serve(teacher(count)) as script:
        assert main(command(file, tmp_path / "whole", script.url)) == 0
        whole = len(script.digests)
    with serve(teacher(count, pause=0.05)) as script:
        typed = command(file, tmp_path / "killed", script.url)
        process = subprocess.Popen([sys.executable, "-m", "atomthink_plugin.cli", *typed], env={**os.environ})
        while len(script.digests) < whole // 2:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(0.3)  # what was sent before arrives
        before = len(script.digests)
        journal = lines(tmp_path / "killed/journal.jsonl")
        finished = {record["finished"].split("#")[0] for record in journal if "finished" in record}
        assert 0 < len(finished) < count
        script.pause = 0.0
        assert main(typed) == 0
        twice = sum(times - 1 for times in Counter(script.digests).values())
        assert twice <= 4  # those in flight when it was killed
        assert len(script.digests) == whole + twice
        later = {question.split()[-1].rstrip("?") for question in script.questions[before:]}
        assert not later & finished
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    spent = summary(tmp_path / "killed")["spent"]
    assert whole + twice <= spent["calls"] <= whole + 4  # some may have been noted and not sent
    assert (spent["unknown"] > 0) == (spent["calls"] > whole)
    assert spent["prompt"] == summary(tmp_path / "whole")["spent"]["prompt"]

    with serve(teacher(count)) as script:
        assert main(command(file, tmp_path / "killed", script.url)) == 0
        assert script.digests == []  # all of it is known


@pytest.mark.parametrize("unit", ["tokens", "usd"])
def test_a_spending_limit_is_kept_and_what_is_done_stays(
    unit: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    count, price = 12, {"prompt": 2.0, "completion": 10.0, "cached": 0.5}
    file = questions(tmp_path / "in", count)
    prices = tmp_path / "prices.yaml"
    prices.write_text(json.dumps({"teacher": price}))
    out = tmp_path / "out"
    with serve(teacher(count)) as script:
        limit = ["--max-tokens-total", "30000"] if unit == "tokens" else ["--max-usd", "0.06"]
        with pytest.raises(SystemExit) as ended:
            main(command(file, out, script.url, "--prices", str(prices), *limit))
        assert ended.value.code == LIMIT_REACHED
        assert f"`{' '.join(limit)}` is reached" in capsys.readouterr().err
        told, billed = summary(out), script.billed
        spent = told["spent"]
        assert (spent["calls"], spent["prompt"], spent["completion"], spent["unknown"]) == (
            *(billed["calls"], billed["prompt"], billed["completion"], 0),
        )
        cached = spent["cached"]
        assert 0 < cached <= billed["prompt"] // 2
        usd = ((billed["prompt"] - cached) * 2.0 + cached * 0.5 + billed["completion"] * 10.0) / 1e6
        assert spent["usd"] == pytest.approx(usd, rel=1e-9)
        worst = [record["worst"] for record in lines(out / "journal.jsonl") if "worst" in record]
        most = max(one["prompt"] + one["completion"] for one in worst), max(one["usd"] for one in worst)
        if unit == "tokens":
            assert 30000 - 1.1 * most[0] < spent["tokens"] <= 30000
        else:
            assert 0.06 - 1.1 * most[1] < spent["usd"] <= 0.06
        unfinished = told["rejects"]["unfinished"]["the run ended before"]
        assert 0 < unfinished < count
        assert told["good"] + told["rejected"] == told["asked"] == count
        with pytest.raises(SystemExit):
            main(command(file, out, script.url, "--prices", str(prices), *limit))
        again = summary(out)["spent"]
        assert again["prompt"] + again["completion"] == script.billed["prompt"] + script.billed["completion"]
        assert again["tokens"] <= 30000 if unit == "tokens" else again["usd"] <= 0.06  # all runs together
        assert main(command(file, out, script.url)) == 0
        assert max(Counter(script.digests).values()) == 1
        assert main(command(file, tmp_path / "whole", script.url)) == 0
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.parametrize("takes", [("json_object",), ()])
def test_servers_that_refuse_schemas_give_the_same_chains(takes: tuple[str, ...], tmp_path: Path) -> None:
    file = questions(tmp_path / "in", 4)
    for name, own in (("all", ("json_schema", "json_object")), ("few", takes)):
        with serve(teacher(4, takes=own)) as script:
            assert main(command(file, tmp_path / name, script.url)) == 0
    assert contents(tmp_path / "all") == contents(tmp_path / "few")
    assert len(read_chains(tmp_path / "few/chains.jsonl").chains) == 4


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


def test_wrong_steps_differ_from_the_right_ones_and_are_checked(tmp_path: Path) -> None:
    steps = ("Step 1: Read red = 4.", "Step 2: Read blue = 2.", "Step 3: 4 + 2 = 6.", "Step 4: The final answer is: 6.")
    (tmp_path / "in").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "in/p.png")
    chain = Chain(id="c", question="How many?", images=("p.png",), steps=steps, answer="6")
    with (tmp_path / "in/chains.jsonl").open("w") as file:
        file.write(json.dumps(chain.model_dump(exclude_none=True) | {"source": "book"}) + "\n")
        file.write('{"id": "empty", "question": "?", "steps": []}\n')
    with serve(Spoiler()) as script:
        typed = command(tmp_path / "in/chains.jsonl", tmp_path / "out", script.url, "--way", "wrong")
        assert main(typed) == 0
    found = read_chains(tmp_path / "out/chains.jsonl")
    told = {chain.id: (chain.steps, chain.labels) for chain in found.chains}
    assert told == {
        "c/1/right": (steps[:1], (1.0,)),
        "c/1/wrong": (("Step 1: Read red = 5.",), (0.0,)),
        "c/4/right": (steps, (None, None, None, 1.0)),
        "c/4/wrong": ((*steps[:3], "Step 4: The final answer is: 9."), (None, None, None, 0.0)),
    }
    assert {one["source"] for one in lines(tmp_path / "out/chains.jsonl")} == {"book"}
    rejects = {one["where"]: (one["stage"], one["reason"]) for one in lines(tmp_path / "out/rejects.jsonl")}
    assert rejects == {
        "chains.jsonl:2": ("input", "no chain"),
        "c/2": ("format", "same words as the right step"),
        "c/3": ("check", "the teacher's check does not call it wrong"),
    }
    assert summary(tmp_path / "out")["asked"] == 5


def test_records_that_are_no_questions_are_set_aside(tmp_path: Path) -> None:
    file = questions(tmp_path / "in", 1)
    (tmp_path / "in/broken.png").write_bytes(b"\x89PNG no picture")
    (tmp_path / "in/huge.png").write_bytes(oversized())
    more: list[object] = [
        {"id": "a", "question": "What?", "image": "gone.png", "answer": 1},
        {"id": "b", "question": "What?", "image": "broken.png", "answer": 1},
        {"id": "c", "question": "What?", "answer": None},
        {"id": "d", "question": " ", "answer": 1},
        {"id": 0, "question": "Again?", "answer": 1},
        [1, 2],
        {"id": "e", "question": "What?", "image": "huge.png", "answer": 1},
        {"id": "f", "question": "\ud83d", "answer": 1},
    ]
    with file.open("a") as out:
        out.write("".join(json.dumps(record) + "\n" for record in more) + "{broken\n")
    append(file, LATIN)
    with serve(teacher(1)) as script:
        assert main(command(file, tmp_path / "out", script.url)) == 0
        assert set(script.questions) == {"What is number 0?"}
    told = summary(tmp_path / "out")
    assert (told["asked"], told["good"], told["rejected"]) == (11, 1, 10)
    reasons = [one["reason"] for one in lines(tmp_path / "out/rejects.jsonl")]
    for reason, begins in zip(
        reasons,
        (
            *("no JSON object", "no JSON: Expecting property name", "no JSON: 'utf-8' codec can't decode byte 0xe9"),
            *("broken image", "broken image", "answer: Field required"),
            *("question: String should have at least 1 character", "id occurred before", "broken image"),
            "question: Input should be a valid string",
        ),
        strict=True,
    ):
        assert reason.startswith(begins)


def test_a_json_file_may_be_a_list(tmp_path: Path) -> None:
    file = questions(tmp_path, 3)
    records = [json.loads(line) for line in file.read_text().splitlines()]
    (tmp_path / "list.json").write_text(json.dumps([*records, 7], indent=1))
    listed = read_items(str(tmp_path / "list.json"), tmp_path / "listed")
    assert listed.items == read_items(str(file), tmp_path / "lines").items
    assert [(one.where, one.reason) for one in listed.unusable] == [("list.json:4", "no JSON object")]
    (tmp_path / "none.json").write_text("{torn")
    with pytest.raises(
        AtomThinkError, match=r"no question that can be used \(1 rejected; the first: none.json:1: no JSON"
    ):
        read_items(str(tmp_path / "none.json"), tmp_path / "none")


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["--base-url", "localhost"], "`base_url=localhost` is no address"),
        (["--max-usd", "1"], "`--max-usd 1` needs the teacher's price"),
        (["--columns", "question=text"], "`--columns question=text`:"),
        (["--columns", "picture=image"], "`--columns picture=image`: fields are id, question"),
        (["--samples", "3"], "`--samples 3` does not go with `--teacher-model`"),
        (["--model", "atomthink_tiny"], "name who writes the chains"),
        (["--tries", "0"], "`--tries 0`: has to be 1 or more"),
        (["--prices", "gone.yaml"], "`--prices gone.yaml` cannot be read"),
    ],
)
def test_bad_arguments_are_explained(
    typed: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = questions(tmp_path / "in", 1)
    assert main(["annotate", str(file), "--out", str(tmp_path / "out"), "--teacher-model", "teacher", *typed]) == 2
    assert message in capsys.readouterr().err


def test_a_model_the_server_does_not_have_ends_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = questions(tmp_path / "in", 3)
    with serve(teacher(3, models=("another",))) as script:
        assert main(command(file, tmp_path / "out", script.url)) == 2
    assert "`--teacher-model teacher`" in capsys.readouterr().err


def test_the_embedded_policy_is_its_own_teacher(tmp_path: Path) -> None:
    from atomthink_plugin.tasks.atoms.building import demo_chains
    from atomthink_plugin.tasks.demo.questions import held_out

    demo = demo_chains(held_out(6), tmp_path)
    records = [chain.model_dump(exclude={"steps"}) for chain in demo]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    typed = ["annotate", str(tmp_path / "questions.jsonl"), "--out", str(tmp_path / "out")]
    assert main([*typed, "--model", "atomthink_tiny", "--samples", "4"]) == 0
    told = summary(tmp_path / "out")
    assert told["good"] + told["rejected"] == told["asked"] == 6
    assert sum(told["rollouts"].values()) == 6 * 4
    assert told["chains"] == told["rollouts"]["kept"]
    found = read_chains(tmp_path / "out/chains.jsonl").chains
    answer_of = {chain.id: chain.answer for chain in demo}
    assert all(f"answer is: {answer_of[chain.id.split('/')[0]]}." in chain.steps[-1] for chain in found)
    assert len({(chain.id.split("/")[0], chain.steps) for chain in found}) == len(found) > 0
    first = contents(tmp_path / "out")
    assert main([*typed, "--model", "atomthink_tiny", "--samples", "4"]) == 0  # from the journal
    assert contents(tmp_path / "out") == first
