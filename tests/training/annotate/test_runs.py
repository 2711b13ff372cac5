"""Whole runs over HTTP: killed and gone on with, stopped by a limit, servers without JSON, bad input."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from atomthink_plugin.cli import main
from atomthink_plugin.training.records import Chain, read_records
from tests.openai_server import serve
from tests.training.annotate.teacher_server import (
    AUGMENT,
    DYNAMIC,
    command,
    contents,
    lines,
    questions,
    summary,
    teacher,
)
from tests.training.damaged_files import LATIN, append, oversized


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.mark.slow
def test_a_killed_run_continues_and_repeats_no_request(tmp_path: Path) -> None:
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
        while script.in_flight:
            time.sleep(0.01)
        before = len(script.digests)
        finished = set()
        for line in (tmp_path / "killed/journal.jsonl").read_text().splitlines():
            with suppress(ValueError):  # the last line may be incomplete
                finished.add(json.loads(line).get("finished", "#").split("#")[0])
        finished -= {""}
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


@pytest.mark.slow
def test_a_run_continues_from_any_end_of_its_ledger(tmp_path: Path) -> None:
    file = questions(tmp_path / "in", 1)
    with serve(teacher(1)) as script:
        assert main(command(file, tmp_path / "whole", script.url)) == 0
        whole = list(script.digests)
    ledger = (tmp_path / "whole/journal.jsonl").read_bytes().splitlines(keepends=True)
    expected = summary(tmp_path / "whole")["spent"]
    assert len(whole) == expected["calls"] == len(set(whole))
    torn = [[*ledger[:end], line[: len(line) // 2]] for end, line in enumerate(ledger)]
    for number, left in enumerate([*(ledger[:end] for end in range(len(ledger))), *torn]):
        out = tmp_path / f"{number}"
        out.mkdir()
        (out / "journal.jsonl").write_bytes(b"".join(left))
        complete = [json.loads(line) for line in left if line.endswith(b"\n")]
        sent, replied = (sum(name in record for record in complete) for name in ("asked", "replied"))
        with serve(teacher(1)) as script:
            assert main(command(file, out, script.url)) == 0
            assert script.digests == whole[replied:]
        assert contents(out) == contents(tmp_path / "whole")
        spent = summary(out)["spent"]
        assert spent["calls"] == len(whole) + sent - replied
        assert (spent["unknown"] > 0) == (sent > replied)
        assert [spent[name] for name in ("prompt", "completion")] == [
            expected[name] for name in ("prompt", "completion")
        ]


@pytest.mark.slow
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
        assert main(command(file, out, script.url, "--prices", str(prices), *limit)) == 3
        assert " ".join(limit) in capsys.readouterr().err
        totals, billed = summary(out), script.billed
        spent = totals["spent"]
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
        unfinished = totals["rejects"]["unfinished"]["the run ended early"]
        assert 0 < unfinished < count
        assert totals["good"] + totals["rejected"] == totals["asked"] == count
        assert main(command(file, out, script.url, "--prices", str(prices), *limit)) == 3
        again = summary(out)["spent"]
        assert again["prompt"] + again["completion"] == script.billed["prompt"] + script.billed["completion"]
        assert again["tokens"] <= 30000 if unit == "tokens" else again["usd"] <= 0.06  # all runs together
        assert main(command(file, out, script.url)) == 0
        assert max(Counter(script.digests).values()) == 1
        assert main(command(file, tmp_path / "whole", script.url)) == 0
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("takes", [("json_object",), ()])
def test_servers_that_refuse_schemas_give_the_same_chains(takes: tuple[str, ...], tmp_path: Path) -> None:
    file = questions(tmp_path / "in", 4)
    for name, own in (("all", ("json_schema", "json_object")), ("few", takes)):
        with serve(teacher(4, takes=own)) as script:
            assert main(command(file, tmp_path / name, script.url)) == 0
    assert contents(tmp_path / "all") == contents(tmp_path / "few")
    assert len(read_records(tmp_path / "few/chains.jsonl", Chain).records) == 4


@pytest.mark.parametrize(("method", "habits"), [("dynamic", DYNAMIC), ("augment", AUGMENT)])
def test_a_direct_answer_is_no_chain_of_atomic_steps(
    method: str, habits: Mapping[str, tuple[str, str] | None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = questions(tmp_path / "in", 2)
    script = teacher(2)
    script.habits = {"What is number 0?": "direct", "What is number 1?": "hasty"}
    with serve(script):
        assert main(command(file, tmp_path / "out", script.url, "--method", method)) == 0
    found = read_records(tmp_path / "out/chains.jsonl", Chain).records
    assert {chain.id for chain in found} == {"1"}
    assert len(found[0].steps) > 3
    rejects = {one["where"]: (one["stage"], one["reason"]) for one in lines(tmp_path / "out/rejects.jsonl")}
    assert rejects == {"0": habits["direct"]}
    assert summary(tmp_path / "out")["method"] == lines(tmp_path / "out/chains.jsonl")[0]["method"] == method
    *printed, last = capsys.readouterr().out.splitlines()
    assert str(tmp_path / "out/rejects.jsonl") in "".join(printed)
    assert last.startswith("next: atomthink ")
    assert last.endswith(str(tmp_path / "out/chains.jsonl"))


def test_records_that_are_no_questions_are_rejected(tmp_path: Path) -> None:
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
    totals = summary(tmp_path / "out")
    assert (totals["asked"], totals["good"], totals["rejected"]) == (11, 1, 10)
    reasons = [one["reason"] for one in lines(tmp_path / "out/rejects.jsonl")]
    for reason, begins in zip(
        reasons,
        (
            *("broken image", "broken image", "answer: ", "question: ", "id occurred before", "no JSON object"),
            *("broken image", "question: ", "no JSON", "no JSON"),
        ),
        strict=True,
    ):
        assert reason.startswith(begins)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["--base-url", "localhost"], "base_url=localhost"),
        (["--max-usd", "1"], "--prices"),
        (["--columns", "question=text"], "--columns question=text"),
        (["--columns", "picture=image"], "--columns picture=image"),
        (["--samples", "3"], "--samples 3"),
        (["--model", "atomthink_tiny"], "--teacher-model"),
        (["--tries", "0"], "--tries"),
        (["--max-steps", "1"], "--max-steps"),
        (["--method", "corrupt", "--split", "test"], "--split"),
        (["--method", "corrupt", "--columns", "id=pid"], "--columns"),
        (["--method", "corrupt", "--max-steps", "4"], "--max-steps"),
        (["--prices", "gone.yaml"], "--prices gone.yaml"),
    ],
)
def test_bad_arguments_are_explained(
    typed: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = questions(tmp_path / "in", 1)
    assert main(["annotate", str(file), "--out", str(tmp_path / "out"), "--teacher-model", "teacher", *typed]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--base-url", "http://localhost/v1"), ("--method", "dynamic"), ("--prices", "p.yaml"), ("--max-usd", "1.0")),
        *(("--checks", "0"), ("--tries", "3"), ("--max-steps", "9"), ("--concurrency", "4"), ("--timeout", "9.0")),
        *(("--max-retries", "0"), ("--wait", "0.0"), ("--max-tokens-total", "9")),
    ],
)
def test_what_is_the_teachers_does_not_go_with_a_local_model(
    option: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["annotate", str(questions(tmp_path / "in", 1)), "--out", str(tmp_path / "out")]
    assert main([*typed, "--model", "atomthink_tiny", option, value]) == 2
    assert f"{option} {value}" in capsys.readouterr().err


def test_a_model_the_server_does_not_have_ends_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = questions(tmp_path / "in", 3)
    with serve(teacher(3, models=("another",))) as script:
        assert main(command(file, tmp_path / "out", script.url)) == 2
    assert "`--teacher-model teacher`" in capsys.readouterr().err


@pytest.mark.slow
def test_the_embedded_policy_is_its_own_teacher(tmp_path: Path) -> None:
    from atomthink_plugin.tasks.capability.record_set import demo_chains
    from atomthink_plugin.tasks.demo.questions import held_out

    demo = demo_chains(held_out(6), tmp_path)
    records = [chain.model_dump(exclude={"steps"}) for chain in demo]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    typed = ["annotate", str(tmp_path / "questions.jsonl"), "--out", str(tmp_path / "out")]
    assert main([*typed, "--model", "atomthink_tiny", "--samples", "4"]) == 0
    totals = summary(tmp_path / "out")
    assert totals["good"] + totals["rejected"] == totals["asked"] == 6
    assert sum(totals["rollouts"].values()) == 6 * 4
    assert set(totals["rollouts"]) == {"kept", "again", "answer", "format", "steps"}
    assert totals["chains"] == totals["rollouts"]["kept"]
    found = read_records(tmp_path / "out/chains.jsonl", Chain).records
    answer_of = {chain.id: chain.answer for chain in demo}
    assert all(f"answer is: {answer_of[chain.id.split('/')[0]]}." in chain.steps[-1] for chain in found)
    assert len({(chain.id.split("/")[0], chain.steps) for chain in found}) == len(found) > 0
    first = contents(tmp_path / "out")
    assert main([*typed, "--model", "atomthink_tiny", "--samples", "4"]) == 0  # from the journal
    assert contents(tmp_path / "out") == first


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Lets writes fail in the middle of a run, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.slow
def test_a_disk_that_is_full_ends_a_run_and_what_is_done_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = questions(tmp_path / "in", 2), tmp_path / "out"
    with serve(teacher(2)) as script:
        with files_of_at_most(2000):
            assert main(command(file, out, script.url)) == 2
        assert f"--out {out}" in capsys.readouterr().err.splitlines()[-1]
        before = script.billed.total()
        assert main(command(file, out, script.url)) == 0
        assert summary(out)["good"] == 2
        again = out.with_name("again")
        assert main(command(file, again, script.url)) == 0
        assert 0 < before < script.billed.total()
    assert contents(again) == contents(out)


@pytest.mark.parametrize("taken", ["images", "journal"])
def test_an_output_that_cannot_be_written_is_no_fault_of_the_questions(
    taken: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = questions(tmp_path / "in", 1), tmp_path / "out"
    out.mkdir()
    (out / taken).write_text("a file where a folder has to be")
    assert main(["annotate", str(file), "--out", str(out), "--model", "atomthink_tiny", "--samples", "1"]) == 2
    assert f"--out {out}" in capsys.readouterr().err.splitlines()[-1]
    assert not (out / "rejects.jsonl").exists()
