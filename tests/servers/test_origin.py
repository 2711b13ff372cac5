"""A run that continues with its model at another address finds its journal, and one with another model does not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from atomthink_plugin import load, make_question
from atomthink_plugin.scorers.served_prm import prm_servers
from tests.openai_server import ChatServer, serve
from tests.scorers.test_served import LengthPrm


@contextmanager
def at_own_addresses(*roots: str | None) -> Iterator[list[str]]:
    """Serves one model name at several addresses at the same time, each with the checkpoint that it reports."""
    with ExitStack() as stack:
        yield [stack.enter_context(serve(ChatServer(root=root))).url for root in roots]


def finished_before(journal: Path, url: str) -> int:
    """Answers a question by a server, and returns how many the journal had before."""
    runner = load("atomthink_openai", pretrained="scripted", base_url=url, journal=str(journal)).runner
    assert runner.journal is not None
    with closing(runner.journal):
        found = len(runner.journal)
        runner.run([make_question("What is 1 + 1?")])
    return found


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ("ORG/MODEL", "ORG/MODEL", 1),
        ("/data/models/one", "/data/models/one", 1),
        ("ORG/ONE", "ORG/TWO", 0),
        ("scripted", "scripted", 0),  # the name, and not a checkpoint
        (None, None, 0),
    ],
)
def test_a_model_that_moved_is_known_by_its_checkpoint(
    tmp_path: Path, first: str | None, second: str | None, found: int
) -> None:
    with at_own_addresses(first, second) as (one, two):
        assert finished_before(tmp_path, one) == 0
        assert finished_before(tmp_path, two) == found
        assert finished_before(tmp_path, one) == 1


def test_the_scores_of_a_served_prm_are_known_by_its_checkpoint() -> None:
    def identity(*urls: str) -> str:
        scorer = LengthPrm("length", "scripted", prm_servers(";".join(urls), 1, 600, 0), wait=600)
        asyncio.run(scorer.check())
        return scorer.identity

    with at_own_addresses("ORG/PRM", "ORG/PRM", "ORG/OTHER", None, None) as (one, same, other, unknown, unknown_too):
        assert identity(one) == identity(same) == identity(one, same)
        assert len({identity(one), identity(other), identity(unknown), identity(unknown_too)}) == 4
        assert identity(one, unknown) == identity(unknown, one) != identity(one, unknown_too)
