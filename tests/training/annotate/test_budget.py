"""What is on the books against what a server bills, however it fails."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import openai
import pytest

from atomthink_plugin.cli import main
from atomthink_plugin.servers.openai_client import Server
from atomthink_plugin.servers.pauses import pause_after
from tests.openai_server import ChatServer, serve
from tests.training.annotate.teacher_server import TeacherServer, command, lines, questions, summary, teacher


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def billed(script: TeacherServer, calls: int) -> int:
    """The tokens a server bills once it has worked off so many calls, whoever still waits for them."""
    while script.billed["calls"] < calls:
        time.sleep(0.02)
    time.sleep(1.0)  # for those that nobody expects
    assert script.billed["calls"] == calls
    return script.billed["prompt"] + script.billed["completion"]


def silent_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.slow
def test_every_try_of_a_slow_server_is_on_the_books(tmp_path: Path) -> None:
    file = questions(tmp_path / "in", 1)
    with serve(teacher(1, pause=4.0)) as script:
        assert main(command(file, tmp_path / "out", script.url, "--timeout", "2.0", "--max-retries", "2")) == 2
        tokens = billed(script, 3)
    spent = summary(tmp_path / "out")["spent"]
    assert (spent["calls"], spent["prompt"], spent["completion"]) == (3, 0, 0)
    assert spent["unknown"] == spent["tokens"] >= tokens


@pytest.mark.slow
def test_no_try_is_made_that_may_exceed_the_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = questions(tmp_path / "in", 1)
    with serve(teacher(1, pause=4.0)) as script:
        slow = ["--timeout", "2.0", "--max-retries", "0"]
        assert main(command(file, tmp_path / "one", script.url, *slow)) == 2
        worst = summary(tmp_path / "one")["spent"]["tokens"]
        limit = str(2 * worst + worst // 2)
        retried = [*slow[:3], "5", "--max-tokens-total", limit]
        assert main(command(file, tmp_path / "out", script.url, *retried)) == 3
        billed(script, 1 + 2)
    assert f"--max-tokens-total {limit}" in capsys.readouterr().err
    assert summary(tmp_path / "out")["spent"]["tokens"] == 2 * worst <= int(limit)


def test_replies_that_cannot_be_read_are_on_the_books_one_by_one(tmp_path: Path) -> None:
    file = questions(tmp_path / "in", 1)
    script = teacher(1)
    script.habits = {"What is number 0?": "garbles"}
    with serve(script):
        assert main(command(file, tmp_path / "out", script.url)) == 2
    spent = summary(tmp_path / "out")["spent"]
    assert spent["calls"] == script.billed["calls"] > 1
    assert spent["tokens"] >= script.billed["prompt"] + script.billed["completion"]


def test_a_server_that_counts_nothing_costs_the_most_it_may(tmp_path: Path) -> None:
    file = questions(tmp_path / "in", 1)
    with serve(teacher(1)) as script:
        assert main(command(file, tmp_path / "counted", script.url)) == 0
        calls, tokens = script.billed["calls"], summary(tmp_path / "counted")["spent"]["tokens"]
    with serve(teacher(1, counted=False)) as script:
        assert main(command(file, tmp_path / "out", script.url)) == 0
    spent = summary(tmp_path / "out")["spent"]
    assert spent["calls"] == calls
    assert spent["unknown"] == spent["tokens"] > tokens


@pytest.mark.slow
def test_a_request_that_reached_no_server_costs_nothing(tmp_path: Path) -> None:
    file, limit = questions(tmp_path / "in", 4), ["--max-tokens-total", "60000"]
    nobody = f"http://127.0.0.1:{silent_port()}/v1"
    assert main(command(file, tmp_path / "out", nobody, "--max-retries", "1", *limit)) == 2
    spent = summary(tmp_path / "out")["spent"]
    assert (spent["calls"], spent["tokens"]) == (0, 0)
    with serve(teacher(4)) as script:
        assert main(command(file, tmp_path / "out", script.url, *limit)) == 0
        assert summary(tmp_path / "out")["spent"]["calls"] == script.billed["calls"]


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_an_http_error_costs_nothing_and_is_tried_again_where_that_may_help(status: int, tmp_path: Path) -> None:
    file = questions(tmp_path / "in", 1)
    script = teacher(1, always=status)
    with serve(script):
        assert main(command(file, tmp_path / "out", script.url, "--max-retries", "2")) == 2
    spent = summary(tmp_path / "out")["spent"]
    assert spent["tokens"] == 0
    assert spent["calls"] == len(script.questions) == (1 if status in (401, 403) else 3)


def test_a_dropped_connection_costs_the_most_it_may(tmp_path: Path) -> None:
    file = questions(tmp_path / "in", 1)
    script = teacher(1, always="drop")
    with serve(script):  # waiting for it would be paid for, try by try
        assert main(command(file, tmp_path / "out", script.url, "--max-retries", "1", "--wait", "60")) == 2
    spent = summary(tmp_path / "out")["spent"]
    assert spent["calls"] == script.billed["calls"] == 2
    assert spent["unknown"] >= script.billed["prompt"] + script.billed["completion"]


@pytest.mark.slow
def test_a_failed_try_is_made_good_by_the_next(tmp_path: Path) -> None:
    file = questions(tmp_path / "in", 3)
    with serve(teacher(3)) as script:
        assert main(command(file, tmp_path / "whole", script.url)) == 0
    with serve(teacher(3, faults=[503, "drop", 429])) as script:
        assert main(command(file, tmp_path / "out", script.url)) == 0
    for name in ("chains.jsonl", "rejects.jsonl"):
        assert (tmp_path / "out" / name).read_text() == (tmp_path / "whole" / name).read_text()
    worst = [record["worst"] for record in lines(tmp_path / "out/journal.jsonl") if "worst" in record]
    assert summary(tmp_path / "out")["spent"]["calls"] == len(worst) == script.billed["calls"] + 2


@pytest.mark.slow
def test_a_server_that_goes_away_is_waited_for_at_no_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atomthink_plugin.servers.openai_client._AGAIN", 0.05)
    away, watch = threading.Event(), Server._watch

    async def watched(server: Server, *session: Any) -> None:
        away.set()
        await watch(server, *session)

    monkeypatch.setattr(Server, "_watch", watched)
    file, port = questions(tmp_path / "in", 3), silent_port()
    script = teacher(3, headers={"connection": "close"})
    typed = ["--max-retries", "1", "--wait", "60"]
    with serve(script):
        assert main(command(file, tmp_path / "whole", script.url, *typed)) == 0
    whole, script.pause = len(script.digests), 0.05

    def made() -> list[dict[str, Any]]:
        file = tmp_path / "out/journal.jsonl"
        whole_lines = file.read_text().rpartition("\n")[0].splitlines() if file.exists() else []
        return [record for record in map(json.loads, whole_lines) if "asked" in record]

    def come_and_go(over: threading.Event) -> None:
        with serve(script, port):
            while len(script.digests) < whole + whole // 2 and not over.is_set():
                time.sleep(0.01)
        while not away.wait(0.01) and not over.is_set():
            pass
        with serve(script, port):
            over.wait()

    over = threading.Event()
    thread = threading.Thread(target=come_and_go, args=(over,))
    thread.start()
    while not script.url.endswith(f":{port}/v1"):
        time.sleep(0.01)
    try:
        assert main(command(file, tmp_path / "out", script.url, *typed)) == 0
    finally:
        over.set()
        thread.join()
    for name in ("chains.jsonl", "rejects.jsonl"):
        assert (tmp_path / "out" / name).read_text() == (tmp_path / "whole" / name).read_text()
    spent = summary(tmp_path / "out")["spent"]
    assert len(made()) > spent["calls"] >= whole  # the others reached nobody
    assert spent["prompt"] == summary(tmp_path / "whole")["spent"]["prompt"]


@pytest.mark.parametrize(
    ("status", "headers", "pause"),
    [
        (429, {"retry-after": "7"}, 7.0),
        (429, {"retry-after": "7", "retry-after-ms": "1500"}, 1.5),
        (503, {"retry-after": "120"}, 120.0),
        (429, {"retry-after": "121"}, None),  # not today
        (429, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 4.0),  # past: the pause that grows with every try
        (429, {"retry-after": "soon"}, 4.0),
        (500, {}, 4.0),
        (408, {}, 4.0),
        (400, {}, None),
        (403, {"retry-after": "7"}, None),
        (500, {"x-should-retry": "false"}, None),
        (400, {"x-should-retry": "true"}, 4.0),
    ],
)
def test_a_server_sets_the_time_of_the_next_try(status: int, headers: dict[str, str], pause: float | None) -> None:
    with serve(ChatServer(always=status, headers=headers)) as script:
        client = openai.OpenAI(base_url=script.url, api_key="none", max_retries=0)
        with client, pytest.raises(openai.APIStatusError) as failed:
            client.chat.completions.create(model="scripted", messages=[])
    due = pause_after(failed.value, 3)
    if pause == 4.0:
        assert due is not None
        assert 3.0 <= due <= 4.0
    else:
        assert due == pause


def test_pauses_grow_up_to_a_bound() -> None:
    pauses = [pause_after(TimeoutError(), tried) for tried in (0, 1, 2, 3, 4, 50, 5000)]
    assert all(pause is not None for pause in pauses)
    for pause, most in zip(pauses, (0.5, 1, 2, 4, 8, 8, 8), strict=True):
        assert 0.75 * most <= (pause or 0) <= most
