"""`Runner.think`: one question, with a callback for nodes."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path as FilePath

import pytest

from atomthink_plugin.api import Choice, Message, Node, Outcome, Prompt, QuestionError, Score, Search, SearchTree
from atomthink_plugin.runtime.journal import Journal
from atomthink_plugin.searches.beam import beam
from atomthink_plugin.searches.majority import majority
from atomthink_plugin.testing import ScriptedPolicy, ScriptedScorer
from tests.runtime.test_runner import runner, timeless
from tests.trees import Grove, question

FIRST, FINAL = "Step 1: Look.", "Step 2: The final answer is: 4."
OTHER = "Step 2: The final answer is: 5."
TREE = {"": {FIRST: 1.0}, FIRST: {FINAL: 0.5, OTHER: 0.5}}
GROVE = Grove(TREE, {FIRST: 0.25, f"{FIRST}\n\n{FINAL}": 0.75, f"{FIRST}\n\n{OTHER}": 0.5}, {})
ASKED = Prompt((Message("user", ("Which?",)),), begun=(FIRST,))


def test_on_node_is_called_for_each_node_and_each_score() -> None:
    seen: list[tuple[str, Node]] = []
    now = ["thinking"]

    async def search(tree: SearchTree) -> Choice:
        choice = await beam(1, 4)(tree)
        tree.write(choice.path, "That is all.")
        now[0] = "ended"
        return choice

    policy = ScriptedPolicy(TREE, exhaustive=True)
    think = runner(GROVE, search, policy).think(question(), lambda node: seen.append((now[0], node)))
    outcome = asyncio.run(think)
    assert {when for when, _ in seen} == {"thinking"}
    states: dict[str, list[float | None]] = {}
    for _, node in seen:
        states.setdefault(node.text, []).append(node.score)
    assert states == {FIRST: [None, 0.25], FINAL: [None, 0.75], OTHER: [None, 0.5], "That is all.": [None]}
    assert {node.text: node for _, node in seen} == {node.text: node for node in outcome.nodes}


def test_think_gives_the_result_of_run(tmp_path: FilePath) -> None:
    expected = timeless(runner(GROVE, majority(3)).run([question()]))
    seen: list[Node] = []
    with contextlib.closing(Journal(tmp_path, "run", {})) as journal:
        thinking = runner(GROVE, majority(3), journal=journal)
        first = asyncio.run(thinking.think(question()))
        again = asyncio.run(thinking.think(question(), seen.append))
    assert timeless([first]) == timeless([again]) == expected
    assert seen == []


def test_an_error_in_a_callback_is_raised_to_the_caller(tmp_path: FilePath) -> None:
    def broken(node: Node) -> None:
        raise LookupError(node.text)

    expected = timeless(runner(GROVE, majority(3)).run([question()]))
    with contextlib.closing(Journal(tmp_path, "run", {})) as journal:
        thinking = runner(GROVE, majority(3), journal=journal)

        async def notebook() -> Outcome:
            with pytest.raises(LookupError, match="Look"):
                await thinking.think(question(), broken)
            assert len(journal) == 0
            assert await others() == set()
            return await thinking.think(question())

        assert timeless([asyncio.run(notebook())]) == expected


def test_a_question_that_cannot_be_asked_raises() -> None:
    def fails(prompt: Prompt) -> None:
        raise QuestionError("image 1 is truncated")

    with pytest.raises(QuestionError, match="image 1 is truncated"):
        asyncio.run(runner(GROVE, majority(3), ScriptedPolicy(TREE, fails=fails)).think(question()))


async def others() -> set[asyncio.Task[object]]:
    """The remaining tasks after cancelled tasks have ended."""
    for _ in range(5):
        await asyncio.sleep(0)
    return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]


class Waits(ScriptedScorer):
    async def score(self, path: object) -> Score:
        await asyncio.Event().wait()
        raise AssertionError


async def gathers(tree: SearchTree) -> Choice:
    """Makes several concurrent calls, one of which fails if the policy fails."""
    (family,) = await tree.expand([tree.root], 1)
    await asyncio.gather(
        tree.score(family[0]),
        tree.value(family[0], "min"),
        tree.rollouts(2),
        tree.expand(family, 1),
        tree.ask(family[0], ASKED, use="judge"),
    )
    raise AssertionError


@pytest.mark.parametrize("search", [gathers, majority(3)])
def test_a_cancelled_question_leaves_no_tasks(search: Search) -> None:
    waiting = ScriptedPolicy(TREE, delay=lambda prompt, n: 0 if prompt.depth == 0 else 1_000_000)

    async def notebook() -> None:
        thinking = runner(GROVE, search, waiting, scorer=Waits({}))
        task = asyncio.create_task(thinking.think(question()))
        while len(waiting.calls) < 3:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await others() == set()

    asyncio.run(notebook())


def test_a_failed_question_leaves_no_tasks() -> None:
    def fails(prompt: Prompt) -> None:
        if prompt.messages == ASKED.messages:
            raise QuestionError("the judge was away")

    def delay(prompt: Prompt, n: int) -> int:
        return 3 if prompt.messages == ASKED.messages else 0 if prompt.depth == 0 else 1_000_000

    async def notebook() -> None:
        thinking = runner(GROVE, gathers, ScriptedPolicy(TREE, fails=fails, delay=delay), scorer=Waits({}))
        with pytest.raises(QuestionError, match="away"):
            await thinking.think(question())
        assert await others() == set()

    asyncio.run(notebook())


def test_requests_that_a_search_did_not_wait_for_are_cancelled() -> None:
    async def search(tree: SearchTree) -> Choice:
        asking = asyncio.create_task(tree.ask(tree.root, ASKED, use="judge"))
        await asyncio.sleep(0)
        path = (await tree.rollouts(1))[0]
        assert not asking.done()
        return Choice(path, 0.0, tree.why(path))

    def delay(prompt: Prompt, n: int) -> int:
        return 1_000_000 if prompt.messages == ASKED.messages else 0

    async def notebook() -> None:
        outcome = await runner(GROVE, search, ScriptedPolicy(TREE, delay=delay)).think(question())
        assert outcome.answer in {"4", "5"}
        assert await others() == set()

    asyncio.run(notebook())


def test_other_rollouts_stop_when_one_fails() -> None:
    def fails(prompt: Prompt) -> None:
        if len(policy.calls) == 3 and not failed:
            failed.append(True)
            raise QuestionError("the server was away")

    async def search(tree: SearchTree) -> Choice:
        with pytest.raises(QuestionError, match="away"):
            await tree.rollouts(3)
        asked = len(policy.calls)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(policy.calls) == asked == 3
        path = (await tree.rollouts(1))[0]
        return Choice(path, 0.0, tree.why(path))

    failed: list[bool] = []
    policy = ScriptedPolicy(TREE, fails=fails, delay=lambda prompt, n: 20 - 5 * len(policy.calls))
    assert asyncio.run(runner(GROVE, search, policy).think(question())).stopped == "final"
