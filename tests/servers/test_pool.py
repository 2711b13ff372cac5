"""Questions move away from a server that is gone, and back to it."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from importlib import import_module
from typing import Any, ClassVar

import pytest

from atomthink_plugin.servers.http_client import BoundedClient
from atomthink_plugin.servers.openai_client import Server, UnreachableError
from atomthink_plugin.servers.pool import Servers
from tests.openai_server import ChatServer, Fault, serve

QUESTIONS = [f"q{i}" for i in range(24)]


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atomthink_plugin.servers.openai_client._AGAIN", 0.01)


class Place:
    """A port at which a server comes and goes; it keeps no connection open."""

    def __init__(self) -> None:
        self.script = ChatServer(headers={"connection": "close"})
        self._stack = ExitStack()
        self._stack.enter_context(serve(self.script))
        self.server = Server(self.script.url, "", timeout=60, max_retries=0, connections=64)

    @property
    def port(self) -> int:
        return int(self.script.url.split(":")[2].split("/")[0])

    def close(self) -> None:
        self._stack.close()

    def leave(self) -> None:
        self.close()

    def come(self) -> None:
        self._stack.enter_context(serve(self.script, self.port))


class GatewayPlace(Place):
    """A gateway that answers while the server it stands for goes away and comes back."""

    def leave(self) -> None:
        self.script.always = self.script.listing = 502

    def come(self) -> None:
        self.script.always = self.script.listing = None


class HostPlace(Place):
    """A whole host that comes and goes: packets to it get no answer, so connecting times out."""

    gone: ClassVar[set[int]] = set()

    def leave(self) -> None:
        self.gone.add(self.port)

    def come(self) -> None:
        self.gone.remove(self.port)


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = next(kind for kind in BoundedClient.__mro__ if kind.__name__ == "AsyncClient")
    httpx = import_module(kind.__module__.partition(".")[0])  # the client library has one of two
    send = BoundedClient.send

    async def send_to_hosts(client: BoundedClient, request: Any, **options: Any) -> Any:
        if request.url.port in HostPlace.gone:
            raise httpx.ConnectTimeout("")
        return await send(client, request, **options)

    monkeypatch.setattr(BoundedClient, "send", send_to_hosts)
    monkeypatch.setattr(HostPlace, "gone", set())


@pytest.fixture
def places(request: pytest.FixtureRequest) -> Iterator[list[Place]]:
    kind: type[Place] = getattr(request, "param", Place)
    with ExitStack() as all_places:
        made = [kind() for _ in range(3)]
        for place in made:
            all_places.callback(place.close)
        yield made


async def post(server: Server) -> str:
    body = {"model": "scripted", "temperature": 0, "max_tokens": 3, "messages": [{"role": "user", "content": "How?"}]}
    await server.post("/chat/completions", body)
    return server.url


async def replying(pool: Servers) -> dict[str, str]:
    """The server that replies to each question."""
    urls = await asyncio.gather(*(pool.ask(question, post) for question in QUESTIONS))
    return dict(zip(QUESTIONS, urls, strict=True))


def run(places: list[Place], scenario: Callable[[Servers], Awaitable[None]], wait: float = 600.0) -> None:
    async def reach_then_run() -> None:
        for place in places:
            await post(place.server)
        await scenario(Servers([place.server for place in places], wait))

    asyncio.run(reach_then_run())


@pytest.mark.parametrize("places", [Place, GatewayPlace, HostPlace], indirect=True)
@pytest.mark.usefixtures("hosts")
def test_questions_of_a_server_that_went_away_move_and_return(
    places: list[Place], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    gone = places[0]

    async def scenario(pool: Servers) -> None:
        homes = await replying(pool)
        assert set(homes.values()) == {place.server.url for place in places}
        gone.leave()
        for _ in range(2):
            moved = await replying(pool)
            assert {q: url for q, url in homes.items() if url != gone.server.url}.items() <= moved.items()
            orphans = {moved[question] for question, url in homes.items() if url == gone.server.url}
            assert orphans == {place.server.url for place in places[1:]}
        absence = gone.server.absence
        assert absence is not None
        assert [record.getMessage().split()[0] for record in caplog.records] == [gone.server.url]
        gone.come()
        await absence.over.wait()
        assert await replying(pool) == homes
        assert [record.getMessage().split()[0] for record in caplog.records] == [gone.server.url] * 2

    run(places, scenario)


def test_new_questions_go_to_the_server_with_the_fewest_requests(places: list[Place]) -> None:
    async def scenario(pool: Servers) -> None:
        first = Counter((await replying(pool)).values())
        assert set(first.values()) == {len(QUESTIONS) / 3}

    run(places, scenario)


def test_new_questions_do_not_wait_for_a_server_that_is_away(places: list[Place]) -> None:
    async def scenario(pool: Servers) -> None:
        places[0].leave()
        await places[0].server.lost(UnreachableError("lost"))
        absence = places[0].server.absence
        assert absence is not None
        homes = await replying(pool)
        places[0].come()
        await absence.over.wait()
        assert await replying(pool) == homes  # none of them was its question

    run(places, scenario)


def test_questions_wait_when_no_server_is_left(places: list[Place]) -> None:
    async def scenario(pool: Servers) -> None:
        for place in places:
            place.leave()
        answers = asyncio.create_task(replying(pool))
        while any(place.server.absence is None for place in places):
            await asyncio.sleep(0)
        assert not answers.done()
        places[1].come()
        assert set((await answers).values()) == {places[1].server.url}

    run(places, scenario)


def test_a_question_fails_when_no_server_is_left_and_none_came_back(places: list[Place]) -> None:
    async def scenario(pool: Servers) -> None:
        for place in places:
            place.leave()
        with pytest.raises(UnreachableError, match="wait=0") as failed:
            await pool.ask("q", post)
        assert all(place.server.url in str(failed.value) for place in places)

    run(places, scenario, wait=0.0)


def test_a_server_that_was_never_reached_is_not_waited_for(places: list[Place]) -> None:
    places[0].leave()
    with pytest.raises(UnreachableError):
        asyncio.run(Servers([places[0].server], 600.0).ask("q", post))


@pytest.mark.parametrize("fault", ["drop", 502])
def test_a_connection_that_is_lost_every_time_fails_its_question_alone(places: list[Place], fault: Fault) -> None:
    place = places[0]

    async def scenario(pool: Servers) -> None:
        place.script.always = fault
        with pytest.raises(UnreachableError):
            await pool.ask("q", post)
        assert place.server.absence is None
        place.script.always = None
        assert await pool.ask("q", post) == place.server.url

    run([place], scenario)


def test_a_server_that_is_away_gets_no_request(places: list[Place]) -> None:
    place = places[0]

    async def scenario(pool: Servers) -> None:
        place.script.listing = 503  # a gateway, and nobody there
        await place.server.lost(UnreachableError("lost"))
        absence, asked = place.server.absence, len(place.script.asked)
        assert absence is not None
        with pytest.raises(UnreachableError):
            await post(place.server)
        assert len(place.script.asked) == asked
        place.script.listing = 404  # the server itself, without a list
        await absence.over.wait()
        assert await pool.ask("q", post) == place.server.url

    run([place], scenario)
