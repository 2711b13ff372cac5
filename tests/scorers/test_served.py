"""Served PRMs on a scripted server; on real ones in tests/vllm."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path as FilePath

import pytest
from pydantic import BaseModel

from atomthink_plugin.api import AtomThinkError, Message, Path, Question, QuestionError, ServerError, Step
from atomthink_plugin.scorers.served_prm import ScoreRequest, ServedPrm, prm_servers
from atomthink_plugin.scorers.served_token import served_prm_token
from atomthink_plugin.servers.openai_client import Server
from atomthink_plugin.servers.replies import ServerReply
from tests.openai_server import ChatServer, Fault, serve
from tests.tiny_models import llava

PATHS = [Path(Question(f"q{i}", (Message("user", ("How?",)),))).extend(Step("Step 1: Read 4.")) for i in range(12)]


class _Text(BaseModel):
    content: str


class _Choice(BaseModel):
    message: _Text


class _Chat(ServerReply):
    choices: list[_Choice]


class LengthPrm(ServedPrm):
    """Scores by the length of what a chat server says."""

    start = "serve"

    def route(self, server: Server) -> str:
        return "/chat/completions"

    def request(self, path: Path) -> ScoreRequest:
        turns = [{"role": "user", "content": path.question.text}]
        return ScoreRequest({"temperature": 0, "max_tokens": 1, "messages": turns}, self.read)

    def read(self, text: str) -> tuple[float, ServerReply]:
        read = _Chat.model_validate_json(text)
        return float(len(read.choices[0].message.content)), read


def prm(*scripts: ChatServer) -> LengthPrm:
    servers = prm_servers(";".join(script.url for script in scripts), connections=1, timeout=600, max_retries=0)
    return LengthPrm("length", "scripted", servers, wait=600)


async def score_all(scorer: LengthPrm) -> list[float]:
    return [score.value for score in await asyncio.gather(*(scorer.score(path) for path in PATHS))]


def test_paths_of_a_server_that_died_are_scored_by_the_others() -> None:
    scripts = [ChatServer(headers={"connection": "close"}) for _ in range(2)]
    with ExitStack() as both:
        dying = both.enter_context(ExitStack())
        for script, stack in zip(scripts, (both, dying), strict=True):
            stack.enter_context(serve(script))
        scorer = prm(*scripts)

        async def scenario() -> None:
            scores = await score_all(scorer)
            before = len(scripts[0].asked)
            assert 0 < before < len(PATHS)
            dying.close()
            assert await score_all(scorer) == scores
            assert len(scripts[0].asked) == before + len(PATHS)

        asyncio.run(scenario())


def test_counts_and_models_are_checked(caplog: pytest.LogCaptureFixture) -> None:
    claims = {"model": "cheaper", "usage": {"prompt_tokens": -3, "completion_tokens": None}}
    with serve(ChatServer(claims=claims)) as script:
        scorer = prm(script)
        for _ in range(2):
            score = asyncio.run(scorer.score(PATHS[0]))
            assert (score.usage.score_calls, score.usage.prefilled, score.usage.cached) == (1, 0, 0)
    assert len(caplog.records) == 2


def test_a_reply_of_megabytes_fails_its_path_at_once() -> None:
    with serve(ChatServer(always="flood")) as script:
        with pytest.raises(QuestionError, match="prm_base_url="):
            asyncio.run(prm(script).score(PATHS[0]))
        assert len(script.asked) == 1


@pytest.mark.parametrize(
    ("fault", "servers"), [(400, False), (401, True), (500, True), (502, True), ("drop", True), ("flood", True)]
)
def test_a_servers_fault_differs_from_a_refused_path(fault: Fault, servers: bool) -> None:
    with serve(ChatServer(always=fault)) as script, pytest.raises(QuestionError) as failed:
        asyncio.run(prm(script).score(PATHS[0]))
    assert isinstance(failed.value, ServerError) is servers


def test_a_redirect_of_a_route_outside_the_protocol_names_an_address_to_pass() -> None:
    class ClassPrm(LengthPrm):
        def route(self, server: Server) -> str:
            return server.url.removesuffix("/v1") + "/classify"

    with serve(ChatServer(redirects={"/classify": (307, "http://other/api/classify")})) as script:
        scorer = ClassPrm("length", "scripted", prm_servers(script.url, 1, 600, 0), wait=600)
        with pytest.raises(ServerError, match=r"http://other/api\b(?!/)"):
            asyncio.run(scorer.score(PATHS[0]))


def test_a_template_that_servers_would_continue_in_another_way_is_refused(tmp_path: FilePath) -> None:
    section = {"kind": "token", "format": "continue", "tag": "<pad>", "good": "<+>", "bad": "<->"}
    folder = llava(tmp_path / "prm", atomthink_prm=section)
    with pytest.raises(AtomThinkError, match="chat template"):
        served_prm_token(str(folder), base_url="http://127.0.0.1:9/v1", max_retries=0, wait=0)
