"""A faulty search, format or unit fails its question with a clear error, and other questions continue."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from atomthink_plugin.api import (
    Choice,
    Failure,
    Message,
    Outcome,
    Path,
    Prompt,
    Proposal,
    Sampling,
    Search,
    SearchTree,
    Unit,
)
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.searches.greedy import greedy
from atomthink_plugin.searches.quick import quick
from atomthink_plugin.testing import ScriptedPolicy, ScriptedScorer
from tests.trees import question, settings

FINAL = "Step 1: The final answer is: 1."
ASKED = Prompt((Message("user", ("Which?",)),))


def results(search: Search, format: Any = None, policy: ScriptedPolicy | None = None, **limits: int) -> list[Any]:
    """The results of three questions. Only the second one has the fault."""
    scripted = policy or ScriptedPolicy({"": {FINAL: 1.0}})
    form = format or Continue()
    scorer = ScriptedScorer(lambda history: 0.5)
    questions = [question(f"q{i}") for i in range(3)]
    return list(Runner(scripted, scorer, form, search, settings(**limits), concurrency=2).run(questions))  # type: ignore[arg-type]


def failure(results: list[Any]) -> str:
    first, second, third = results
    assert isinstance(first, Outcome)
    assert isinstance(third, Outcome)
    assert (first.answer, third.answer) == ("1", "1")
    assert isinstance(second, Failure)
    return second.reason


def wrong(call: Callable[[SearchTree], Awaitable[object] | object]) -> Search:
    """A search with a fault for one question."""

    async def search(tree: SearchTree) -> Choice:
        if tree.question.id == "q1":
            made = call(tree)
            return await made if isinstance(made, Awaitable) else made  # type: ignore[return-value]
        return await quick()(tree)

    return search


async def caught(tree: SearchTree) -> Choice:
    """Catches an error and continues."""
    try:
        await tree.ask(tree.root, ASKED, use="judge", role="judge")
    except Exception:
        return await quick()(tree)
    raise AssertionError


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda tree: tree.expand([tree.root], 0), ["`n=0`"]),
        (lambda tree: tree.expand([tree.root], 1, first=-1), ["`first=-1`"]),
        (lambda tree: tree.expand([tree.root], 1, role="judge"), ["'judge'", "SearchKind"]),
        (lambda tree: tree.rollouts(0), ["`n=0`"]),
        (lambda tree: tree.rollouts(1, first=-2), ["`first=-2`"]),
        (lambda tree: tree.ask(tree.root, ASKED, 0, use="judge"), ["`n=0`"]),
        (lambda tree: tree.ask(tree.root, ASKED, use="judge", first=-1), ["`first=-1`"]),
        (lambda tree: tree.ask(tree.root, ASKED, use=""), ["`use`"]),
        (lambda tree: tree.ask(tree.root, ASKED, use="judge", role="judge"), ["'judge'", "SearchKind"]),
        (lambda tree: tree.ask(tree.root, ASKED, use="judge", temperature=-0.5), ["`temperature=-0.5`"]),
        (lambda tree: tree.ask(tree.root, ASKED, use="judge", temperature=float("nan")), ["`temperature=nan`"]),
        (lambda tree: tree.ask(tree.root, Prompt(()), use="judge"), ["the search", "Prompt"]),
        (lambda tree: tree.ask(tree.root, "Which?", use="judge"), ["the search", "'Which?'", "Prompt"]),
        (
            lambda tree: tree.ask(tree.root, ASKED, use="judge", unit=Unit("verdict", tokens=0)),
            ["'verdict'", "tokens=0"],
        ),
        (lambda tree: tree.score(tree.root), ["root"]),
        (lambda tree: None, ["the search", "None", "Choice"]),
        (lambda tree: sys.exit(3), ["the search", "sys.exit"]),
    ],
)
def test_invalid_arguments_of_a_search_are_named(
    call: Callable[[SearchTree], Awaitable[object]], named: list[str]
) -> None:
    reason = failure(results(wrong(call)))
    assert [name for name in named if name not in reason] == []


def test_a_search_can_continue_after_a_refused_call() -> None:
    policy = ScriptedPolicy({"": {FINAL: 1.0}})
    found = results(wrong(caught), policy=policy, budget_calls=1)
    assert [result.answer for result in found] == ["1"] * 3


@dataclass
class Wrong:
    """A format with a fault for one question."""

    render_: Callable[[Path], Any] = Continue().render
    unit_: Callable[[Path], Any] = Continue().unit
    answer_: Callable[[str], Any] = Continue().answer
    question: str = "q1"

    def render(self, path: Path) -> Prompt:
        return (self.render_ if path.question.id == self.question else Continue().render)(path)

    def unit(self, path: Path) -> Unit | None:
        return (self.unit_ if path.question.id == self.question else Continue().unit)(path)

    def answer(self, text: str) -> str | None:
        return self.answer_(text)


def raises(*ignored: object) -> Any:
    raise LookupError("no such template")


def unending(tokens: int) -> Unit:
    return Unit("SUMMARY", tokens=tokens, closing="</SUMMARY>")


@pytest.mark.parametrize(
    ("format", "named"),
    [
        (Wrong(render_=lambda path: None), ["Wrong", "None", "Prompt"]),
        (Wrong(render_=lambda path: Prompt(())), ["Wrong", "message"]),
        (Wrong(render_=lambda path: Prompt(ASKED.messages, begun=(None,))), ["Wrong", "begun"]),  # type: ignore[arg-type]
        (Wrong(render_=lambda path: Prompt(ASKED.messages, stops=("",))), ["Wrong", "stops"]),
        (Wrong(render_=lambda path: Prompt(ASKED.messages, stops="</S>")), ["Wrong", "stops"]),  # type: ignore[arg-type]
        (Wrong(render_=raises), ["Wrong", "LookupError", "no such template"]),
        (Wrong(render_=lambda path: sys.exit(0)), ["Wrong", "sys.exit"]),
        (Wrong(unit_=lambda path: "step"), ["Wrong", "'step'", "Unit"]),
        (Wrong(unit_=lambda path: unending(-1)), ["SUMMARY", "tokens=-1"]),
        (Wrong(unit_=raises), ["Wrong", "LookupError"]),
        (Wrong(unit_=lambda path: Unit("SUMMARY", cut=raises)), ["SUMMARY", "LookupError"]),
        (Wrong(unit_=lambda path: Unit("SUMMARY", check=raises)), ["SUMMARY", "LookupError"]),
    ],
)
def test_a_wrong_format_is_named(format: Wrong, named: list[str]) -> None:
    for search in (quick(), greedy(2)):
        reason = failure(results(search, format))
        assert [name for name in named if name not in reason] == []


@pytest.mark.parametrize("answer", [raises, lambda text: 4])
def test_an_answer_that_is_no_text_names_the_format(answer: Callable[[str], Any]) -> None:
    found = results(quick(), Wrong(answer_=answer))
    assert all(isinstance(result, Failure) and "Wrong" in result.reason for result in found)


@pytest.mark.parametrize("tokens", [3, 50])
def test_a_unit_without_its_end_is_retried_and_then_ends_the_path(tokens: int) -> None:
    class Endless(ScriptedPolicy):
        """Ends with its end-of-sequence token, never at a stop string."""

        async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
            proposal = await super().propose(prompt, n, sampling)
            steps = [replace(step, finish="eos" if step.finish == "stop" else step.finish) for step in proposal.steps]
            return replace(proposal, steps=tuple(steps))

    def closes(text: str, history: Sequence[str]) -> str | None:
        return None if text.endswith("</SUMMARY>") else "has no end"

    unit = Unit("SUMMARY", tokens=tokens, closing="</SUMMARY>", check=closes)
    found = results(quick(), Wrong(unit_=lambda path: unit), Endless({"": {FINAL: 1.0}}), retries=2)
    assert isinstance(found[1], Outcome)
    assert (found[1].stopped, found[1].answer, found[1].usage.policy_calls) == ("invalid", None, 3)
    assert [found[i].answer for i in (0, 2)] == ["1", "1"]
