"""Whole runs over a server that fails in every way at random, or is killed and comes back."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any

import pytest

from atomthink_plugin.api import Failure, Message, Outcome, Question, Result, Usage
from atomthink_plugin.config import plan
from atomthink_plugin.runtime.build import build
from atomthink_plugin.runtime.journal import Journal
from atomthink_plugin.runtime.runner import Runner
from tests.openai_server import Body, ChatServer, Fault, serve, text_of

pytestmark = pytest.mark.slow


KINDS: tuple[Fault, ...] = (
    *(429, 500, 502, 503),
    *("drop", "garbage", "text", "list", "empty", "null", "error"),
)
UNLUCKY = "unlucky"
ROOT = FilePath(__file__).parents[2]

QUESTIONS = [
    Question(f"q{i}", (Message("user", (f"Question number {i}{', ' + UNLUCKY if i % 8 == 3 else ''}?",)),))
    for i in range(24)
]
BEAM = {"thinking": "slow", "search": "beam", "scorer": "confidence"}


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@dataclass
class Shaky(ChatServer):
    """Fails three requests of ten in one of these ways, and all about some questions."""

    kinds: tuple[Fault, ...] = ()
    chance: random.Random = field(default_factory=lambda: random.Random(4))

    def fault(self, body: Body) -> Fault | None:
        if not self.kinds:
            return None
        if UNLUCKY in text_of(body["messages"][0]["content"]):
            return self.chance.choice(KINDS)
        return self.chance.choice(self.kinds) if self.chance.random() < 0.3 else None


def runner_of(url: str, **typed: Any) -> Runner:
    arguments = {"pretrained": "scripted", "base_url": url, "continuation": "trust", "timeout": 600.0, "max_retries": 2}
    return build(plan("openai", arguments | {"wait": 600} | typed))


def free(results: list[Result]) -> list[Result]:
    """The results without what they cost: what was asked twice may be paid for twice."""
    return [replace(result, usage=Usage()) for result in results]


@pytest.mark.parametrize(
    ("typed", "kinds"),
    [
        ({"thinking": "quick"}, (*KINDS, "few", "many")),
        ({"thinking": "slow", "search": "majority", "n": 3}, (*KINDS, "few", "many")),
        (BEAM, (*KINDS, "many")),  # of a group that comes in parts the samples are others, see OpenAIPolicy
    ],
)
def test_every_question_is_answered_as_without_faults_or_fails_by_the_servers_name(
    typed: dict[str, Any], kinds: tuple[Fault, ...], tmp_path: FilePath
) -> None:
    with serve(Shaky()) as script:
        runner = runner_of(script.url, **typed)
        expected = free(runner.run(QUESTIONS))
        assert all(isinstance(result, Outcome) and result.answer for result in expected)
        journal, script.kinds = Journal(tmp_path, "run", {}), kinds
        results = free(replace(runner, journal=journal).run(QUESTIONS))
        journal.close()
        failed = [i for i, result in enumerate(results) if isinstance(result, Failure)]
        assert {i for i, question in enumerate(QUESTIONS) if UNLUCKY in question.text} <= set(failed)
        assert len(failed) < len(QUESTIONS) / 2
        assert all(script.url in getattr(results[i], "reason", "") for i in failed)
        assert all(results[i] == expected[i] for i in range(len(QUESTIONS)) if i not in failed)
        # The server is well again: the next run asks what failed, and that alone.
        script.kinds, before = (), len(script.asked)
        assert free(replace(runner, journal=Journal(tmp_path, "run", {})).run(QUESTIONS)) == expected
        asked = {text_of(body["messages"][0]["content"]).split("?")[0] for body in script.asked[before:]}
        assert asked == {QUESTIONS[i].text.rstrip("?") for i in failed}


def test_questions_that_get_no_reply_keep_no_other_waiting() -> None:
    class Hanging(ChatServer):
        def fault(self, body: Body) -> Fault | None:
            hangs = UNLUCKY in text_of(body["messages"][0]["content"]) and not self.closing.is_set()
            return "hang" if hangs else None

    with serve(ChatServer()) as script:
        expected = free(runner_of(script.url, **BEAM).run(QUESTIONS))
    lucky = sum(UNLUCKY not in question.text for question in QUESTIONS)
    answered = []
    with serve(Hanging()) as script:

        def finished(result: Result, spent: Usage | None) -> None:
            answered.append(result)
            if len(answered) == lucky:
                script.closing.set()  # the connections that hang are dropped, and the next tries are replied to

        results = runner_of(script.url, **BEAM).run(QUESTIONS, finished)
    assert free(results) == expected


def test_parts_of_groups_lose_no_question() -> None:
    with serve(Shaky()) as script:
        runner = runner_of(script.url, **BEAM)
        script.kinds = ("few", "many", 500)
        results = runner.run(QUESTIONS)
    for question, result in zip(QUESTIONS, results, strict=True):
        if isinstance(result, Failure):
            assert UNLUCKY in question.text or "HTTP 500" in result.reason
            assert script.url in result.reason
        else:
            assert result.answer


def test_a_server_that_dies_leaves_its_questions_to_the_others(caplog: pytest.LogCaptureFixture) -> None:
    with serve(ChatServer()) as script:
        expected = free(runner_of(script.url, **BEAM).run(QUESTIONS))
    scripts = [ChatServer(headers={"connection": "close"}) for _ in range(2)]
    with ExitStack() as both:
        dying = both.enter_context(ExitStack())
        for script, stack in zip(scripts, (both, dying), strict=True):
            stack.enter_context(serve(script))
        answered = []

        def finished(result: Result, spent: Usage | None) -> None:
            answered.append(result)
            if len(answered) == 10:
                dying.close()

        # As few places as can be: a question that waited for the dead server would keep one for ten minutes.
        typed = BEAM | {"wait": 600, "max_retries": 0, "concurrency": 2, "connections": 1}
        results = runner_of(";".join(script.url for script in scripts), **typed).run(QUESTIONS, finished)
    assert free(results) == expected
    assert [scripts[1].url in record.getMessage() for record in caplog.records] == [True]


def start(port: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "tests.openai_server", str(port)], cwd=ROOT)


def test_a_server_that_is_killed_and_comes_back_answers_every_question_once(tmp_path: FilePath) -> None:
    with serve(ChatServer()) as script:
        expected = free(runner_of(script.url, **BEAM).run(QUESTIONS))
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    server, counted = start(port), Counter[str]()
    down: list[subprocess.Popen[bytes]] = [server]

    def finished(result: Result, spent: Usage | None) -> None:
        counted["asked"] += 1
        if counted["asked"] == 10:
            down[-1].kill()
            down[-1].wait()
            down.append(start(port))

    try:
        runner = runner_of(f"http://127.0.0.1:{port}/v1", **BEAM, concurrency=8, connections=8)
        results = replace(runner, journal=Journal(tmp_path, "run", {})).run(QUESTIONS, finished)
    finally:
        for process in down:
            process.kill()
            process.wait()
    assert len(down) == 2
    assert free(results) == expected
    records = [json.loads(line) for file in tmp_path.glob("*/rank0.jsonl") for line in file.open()]
    assert Counter(record["question"] for record in records) == Counter(question.id for question in QUESTIONS)
