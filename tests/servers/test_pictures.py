"""Pictures travel once to a server that keeps them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from PIL import Image

from atomthink_plugin.api import Message, Path, Question, QuestionError, Sampling, Step
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.model_adapters.openai_policy import OpenAIPolicy, openai_policy
from tests.openai_server import Body, ChatServer, parts_of, serve
from tests.policy_prompts import propose

Serve = Callable[..., ChatServer]


@pytest.fixture
def server() -> Iterator[Serve]:
    """Starts servers that end with the test."""
    with ExitStack() as stack:
        yield lambda **parts: stack.enter_context(serve(ChatServer(**parts)))


def policy(script: ChatServer) -> OpenAIPolicy:
    return openai_policy("scripted", base_url=script.url, max_retries=0, wait=0.0, continuation="trust")


def pictured(*colours: str) -> Path:
    images = [Image.new("RGB", (8, 8), colour) for colour in colours]
    return Path(Question("q", (Message("user", (*images, "How many?")),)))


def ask(asked: OpenAIPolicy, *paths: Path) -> list[str]:
    async def one_by_one() -> list[str]:
        proposals = [await propose(asked, Continue(), path, 1, Sampling()) for path in paths]
        return [proposal.steps[0].text for proposal in proposals]

    return asyncio.run(one_by_one())


def sent(body: Body) -> list[str]:
    """How each picture of a request was sent."""
    pictures = [part for part in parts_of(body) if part["type"] == "image_url"]
    return [("" if part["image_url"] is None else "picture") + (" name" if "uuid" in part else "") for part in pictures]


def chain(path: Path, length: int) -> list[Path]:
    return [path, *(path := path.extend(Step(f"Step {k}: Look.")) for k in range(1, length))]


def test_a_picture_travels_once_and_is_named_afterwards(server: Serve) -> None:
    script = server(owner="vllm", names="kept")
    asked = policy(script)
    texts = ask(asked, *chain(pictured("red", "blue"), 3))
    assert [sent(body) for body in script.sampled()] == [["picture name"] * 2, [" name"] * 2, [" name"] * 2]
    names = [[part["uuid"] for part in parts_of(body) if "uuid" in part] for body in script.sampled()]
    assert names[0] == names[1] == names[2]
    assert len(set(names[0])) == 2
    plain = server()
    assert texts == ask(policy(plain), *chain(pictured("red", "blue"), 3))
    assert [sent(body) for body in plain.sampled()] == [["picture"] * 2] * 3


def test_a_new_picture_travels_beside_a_known_one(server: Serve) -> None:
    script = server(owner="vllm", names="kept")
    ask(policy(script), pictured("red"), pictured("red", "blue"), pictured("blue"))
    assert [sent(body) for body in script.sampled()] == [["picture name"], [" name", "picture name"], [" name"]]


def test_a_picture_that_the_server_forgot_travels_again(server: Serve) -> None:
    script = server(owner="vllm", names="kept")
    asked, path = policy(script), pictured("red")
    ask(asked, path, path)
    script.kept.clear()
    ask(asked, path, path)
    assert [sent(body) for body in script.sampled()] == [
        ["picture name"],
        [" name"],
        [" name"],
        ["picture name"],
        [" name"],
    ]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("no picture refused", [["picture name"], [" name"], ["picture name"], ["picture"]]),
        ("refused", [["picture name"], ["picture"], ["picture"], ["picture"]]),
    ],
)
def test_a_server_that_refuses_names_gets_pictures(server: Serve, names: str, expected: list[list[str]]) -> None:
    script = server(owner="vllm", names=names)
    path = pictured("red")
    ask(policy(script), path, path, path)
    assert [sent(body) for body in script.sampled()] == expected


def test_another_refusal_is_no_reason_to_send_the_picture_again(server: Serve) -> None:
    script = server(owner="vllm", names="kept")
    asked, path = policy(script), pictured("red")
    ask(asked, path, path)
    script.always = 400
    with pytest.raises(QuestionError):
        ask(asked, path)
    assert [sent(body) for body in script.sampled()] == [["picture name"], [" name"], [" name"]]


def test_servers_keep_their_own_pictures(server: Serve) -> None:
    scripts = [server(owner="vllm", names="kept"), server(owner="someone")]
    for script in scripts:
        ask(policy(script), *chain(pictured("red"), 2))
    assert [[sent(body) for body in script.sampled()] for script in scripts] == [
        [["picture name"], [" name"]],
        [["picture"], ["picture"]],
    ]
