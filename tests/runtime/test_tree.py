"""Properties of the search tree for combinations of calls that the built-in searches do not make."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.api import (
    AtomThinkError,
    Choice,
    Node,
    Path,
    Prompt,
    Proposal,
    QuestionError,
    Sampling,
    Score,
    ServerError,
    Step,
    Unit,
)
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.formats.steps import SEPARATOR
from atomthink_plugin.runtime.tree import QuestionTree
from atomthink_plugin.testing import ScriptedPolicy, ScriptedScorer
from tests.trees import Grove, groves, question, question_tree, settings, tree_of


@given(groves(depth=4), st.integers(1, 40), st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_any_sequence_of_calls_stays_within_one_budget_and_can_use_all_of_it(
    grove: Grove, calls: int, sizes: list[int]
) -> None:
    tree = tree_of(grove, budget_calls=calls)

    async def search() -> None:
        for size in sizes:
            await tree.rollouts(size)
            await tree.expand([tree.root, tree.root], size)

    asyncio.run(search())
    assert tree.usage.policy_calls <= calls
    asyncio.run(tree.expand([tree.root], calls))
    assert tree.usage.policy_calls == calls


def test_more_rollouts_than_calls_still_gives_some_of_them_an_answer() -> None:
    grove = Grove({"": {"Step 1: The final answer is: 1.": 1.0}}, {}, {})
    paths = asyncio.run(tree_of(grove, budget_calls=3).rollouts(8))
    assert [path.answer for path in paths] == ["1"] * 3 + [None] * 5


def test_a_wide_vote_spends_its_budget_on_chains_that_conclude() -> None:
    texts = [f"Step {k}: Take the road {k}." for k in range(1, 6)]
    last = "Step 6: To sum up, the final answer is: 1."
    tree = {SEPARATOR.join(texts[:k]): {text: 1.0} for k, text in enumerate([*texts, last])}
    tree = tree_of(Grove(tree, {}, {}), budget_calls=300)
    answers = [path.answer for path in asyncio.run(tree.rollouts(64))]
    assert tree.usage.policy_calls == 300
    assert answers == ["1"] * 50 + [None] * 14


def test_a_beam_does_not_reserve_the_tokens_of_another() -> None:
    first, second = "Step 1: Look left.", "Step 1: Look right."
    tree = {"": {first: 0.5, second: 0.5}, first: {"Step 2: On.": 1.0}, second: {"Step 2: On.": 1.0}}
    tree = tree_of(Grove(tree, {}, {}), exhaustive=True, budget_tokens=768)

    async def search() -> list[list[Path]]:
        (beams,) = await tree.expand([tree.root], 2)
        return await tree.expand(beams, 3)

    assert [len(family) for family in asyncio.run(search())] == [1, 1]


def test_a_step_cut_by_the_chain_limit_ends_the_chain_without_retries() -> None:
    first = "Step 1: one two three four five six."
    tree = {"": {first: 1.0}, first: {"Step 2: one two three four five.": 1.0}}
    tree = tree_of(Grove(tree, {}, {}), max_new_tokens=10)

    async def search() -> Path:
        ((path,),) = await tree.expand([tree.root], 1)
        assert await tree.expand([path], 1) == [[]]
        return path

    assert tree.why(asyncio.run(search())) == "length"
    assert tree.usage.policy_calls == 2


def test_a_full_context_ends_a_path_without_retries() -> None:
    class Full(ScriptedPolicy):
        async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
            self.calls.append(("", "", n))
            return Proposal(())

    policy = Full({})
    tree = question_tree(policy)
    assert asyncio.run(tree.expand([tree.root], 2)) == [[]]
    assert (tree.why(tree.root), len(policy.calls)) == ("length", 1)


def test_a_path_that_cannot_be_scored_loses_with_a_recorded_reason() -> None:
    class Picky(ScriptedScorer):
        async def score(self, path: Path) -> Score:
            if path.depth > 1:
                raise QuestionError("longer than the context")
            return await super().score(path)

    first = "Step 1: Look."
    policy = ScriptedPolicy({"": {first: 1.0}, first: {"Step 2: Look again.": 1.0}})
    tree = question_tree(policy, Picky({first: 0.5}))

    async def search() -> list[float]:
        ((one,),) = await tree.expand([tree.root], 1)
        ((two,),) = await tree.expand([one], 1)
        return [await tree.score(one), await tree.score(two)]

    assert asyncio.run(search()) == [0.5, 0.0]


@pytest.mark.parametrize(("scored", "fails"), [((2,), True), ((2, 3), True), ((1, 2, 3), False), ((3, 2, 1), False)])
def test_a_question_fails_if_none_of_its_scored_steps_can_be_read(scored: tuple[int, ...], fails: bool) -> None:
    def worth(history: str) -> float:
        if "Step 2" in history:
            raise QuestionError("longer than the context")
        return 0.5

    texts = ["Step 1: Look.", "Step 2: Look again.", "Step 3: The final answer is: 4."]
    tree = {SEPARATOR.join(texts[:k]): {text: 1.0} for k, text in enumerate(texts)}
    tree_ = question_tree(ScriptedPolicy(tree), ScriptedScorer(worth))

    async def search() -> Choice:
        (path,) = await tree_.rollouts(1)
        for depth in scored:
            await tree_.score(path.lineage[depth - 1])
        return Choice(path, 0.0, "final")

    choice = asyncio.run(search())
    if fails:
        with pytest.raises(QuestionError, match="longer than the context"):
            tree_.outcome(choice)
    else:
        assert tree_.outcome(choice).answer == "4"


def test_a_scorer_whose_server_fails_in_the_middle_fails_the_question() -> None:
    class Served(ScriptedScorer):
        async def score(self, path: Path) -> Score:
            if path.depth > 1:
                raise ServerError("the server is down")
            return await super().score(path)

    first = "Step 1: Look."
    policy = ScriptedPolicy({"": {first: 1.0}, first: {"Step 2: Look again.": 1.0}})
    tree = question_tree(policy, Served({first: 0.5}))

    async def search() -> None:
        ((one,),) = await tree.expand([tree.root], 1)
        assert await tree.score(one) == 0.5
        ((two,),) = await tree.expand([one], 1)
        await tree.score(two)

    with pytest.raises(ServerError):
        asyncio.run(search())


@given(groves(depth=4), st.integers(1, 20), st.integers(0, 99))
def test_the_outcome_has_every_rollout_in_order_with_its_cost(grove: Grove, n: int, seed: int) -> None:
    tree = tree_of(grove, seed=seed)
    paths = asyncio.run(tree.rollouts(n))
    outcome = tree.outcome(Choice(paths[0], 0.0, tree.why(paths[0])))
    assert [rollout.end for rollout in outcome.rollouts] == [path.key for path in paths]
    assert [rollout.logprob for rollout in outcome.rollouts] == [path.logprob for path in paths]
    assert sum(rollout.tokens for rollout in outcome.rollouts) == outcome.usage.generated
    for rollout, path in zip(outcome.rollouts, paths, strict=True):
        assert rollout.tokens >= sum(len(step.token_ids) for step in path.steps)


@given(groves(depth=4), st.integers(1, 8), st.integers(1, 8))
def test_a_smaller_search_has_the_first_rollouts_of_a_larger_one(grove: Grove, few: int, more: int) -> None:
    def ends(n: int) -> list[tuple[str, float | None, int]]:
        tree = tree_of(grove, seed=7)
        path = asyncio.run(tree.rollouts(n))[0]
        rollouts = tree.outcome(Choice(path, 0.0, tree.why(path))).rollouts
        return [(rollout.end, rollout.logprob, rollout.tokens) for rollout in rollouts]

    assert ends(few + more)[:few] == ends(few)


def drawn(grove: Grove, n: int, first: int, rise: float, seed: int) -> tuple[list[str], list[float]]:
    """The samples of one expansion in their order, repetitions included, and their temperatures."""
    samples: list[str] = []
    temperatures: list[float] = []

    class Notes(ScriptedPolicy):
        async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
            proposal = await super().propose(prompt, n, sampling)
            samples.extend(step.text for step in proposal.steps)
            temperatures.extend(sampling.temperature_of(i) for i in range(n))
            return proposal

    limits = settings(temperature=0.3, rise=rise, seed=seed)
    tree = question_tree(Notes(grove.tree), limits=limits)
    (family,) = asyncio.run(tree.expand([tree.root], n, first=first))
    assert [path.steps[0].text for path in family] == list(dict.fromkeys(samples))
    assert [path.steps[0].multiplicity for path in family] == list(Counter(samples).values())
    return samples, temperatures


@given(groves(), st.integers(1, 6), st.integers(0, 6), st.sampled_from([0.0, 0.2, 0.5]), st.integers(0, 99))
def test_an_expansion_from_first_on_has_the_samples_of_a_longer_one(
    grove: Grove, n: int, first: int, rise: float, seed: int
) -> None:
    samples, temperatures = drawn(grove, first + n, 0, rise, seed)
    assert drawn(grove, n, first, rise, seed) == (samples[first:], temperatures[first:])


@given(groves(), st.integers(1, 6), st.integers(0, 6), st.booleans(), st.integers(0, 99))
def test_rollouts_from_first_on_are_those_of_a_longer_call(
    grove: Grove, n: int, first: int, below: bool, seed: int
) -> None:
    def ends(n: int, first: int) -> list[str]:
        tree = tree_of(grove, seed=seed)

        async def search() -> list[Path]:
            start = (await tree.expand([tree.root], 1))[0][0] if below else None
            return await tree.rollouts(n, start=start, first=first)

        return [path.key for path in asyncio.run(search())]

    assert ends(n, first) == ends(first + n, 0)[first:]


@given(groves(), st.lists(st.integers(0, 9), min_size=1, max_size=5), st.integers(1, 4), st.integers(0, 99))
def test_copies_of_a_path_draw_the_samples_of_their_own_indices(
    grove: Grove, firsts: list[int], n: int, seed: int
) -> None:
    tree = tree_of(grove, seed=seed)
    together = asyncio.run(tree.expand([tree.root] * len(firsts), n, first=firsts))
    alone = [asyncio.run(tree_of(grove, seed=seed).expand([tree.root], n, first=first))[0] for first in firsts]
    assert [[child.key for child in children] for children in together] == [
        [child.key for child in children] for children in alone
    ]


def test_copies_of_a_path_become_different_paths() -> None:
    coin = {"Step 1: The final answer is: 0.": 0.5, "Step 1: The final answer is: 1.": 0.5}
    tree = tree_of(Grove({"": coin}, {}, {}))
    families = asyncio.run(tree.expand([tree.root] * 400, 1, first=range(400)))
    answers = Counter(path.answer for (path,) in families)
    assert 150 < answers["0"] < 250  # 5 standard deviations around 200


@pytest.mark.parametrize("first", [[0], [0, 1, 2], [0, -1]])
def test_indices_have_to_fit_the_paths(first: list[int]) -> None:
    tree = tree_of(Grove({"": {"Step 1: Look.": 1.0}}, {}, {}))
    with pytest.raises(AtomThinkError, match="first"):
        asyncio.run(tree.expand([tree.root, tree.root], 1, first=first))


def test_rollouts_in_two_calls_are_recorded_once_and_in_the_order_of_their_samples() -> None:
    coin = {f"Step 1: The final answer is: {digit}.": 0.1 for digit in range(10)}
    whole, parts = tree_of(Grove({"": coin}, {}, {})), tree_of(Grove({"": coin}, {}, {}))

    async def search() -> Path:
        await parts.rollouts(3, first=2)
        return (await parts.rollouts(4, start=parts.root))[0]

    paths = asyncio.run(whole.rollouts(5))
    path = asyncio.run(search())
    recorded = [[rollout.end for rollout in tree.outcome(Choice(path, 0, "final")).rollouts] for tree in (whole, parts)]
    assert recorded == [[path.key for path in paths]] * 2


def test_a_score_is_kept_when_a_node_is_reached_again() -> None:
    first, final = "Step 1: Look.", "Step 2: The final answer is: 4."
    seen: list[Node] = []

    class Picky(ScriptedScorer):
        async def score(self, path: Path) -> Score:
            if path.depth > 1:
                raise QuestionError("longer than the context")
            return await super().score(path)

    policy = ScriptedPolicy({"": {first: 1.0}, first: {final: 1.0}})
    policies, limits = {"policy": policy}, settings()
    tree = QuestionTree(question(), policies, Picky({first: 0.5}), Continue(), limits, on_node=seen.append)

    async def search() -> Choice:
        for index in range(2):
            (path,) = await tree.rollouts(1, first=index)
            assert await tree.value(path, "min") == 0.0
        return Choice(path, 0.0, "final")

    nodes = {node.text: node for node in tree.outcome(asyncio.run(search())).nodes}
    assert [(nodes[text].score, nodes[text].multiplicity) for text in (first, final)] == [(0.5, 2), (0.0, 2)]
    assert nodes[final].rejected is not None
    assert {node.text: node for node in seen} == nodes


def test_a_cancelled_score_is_asked_again() -> None:
    class Slow(ScriptedScorer):
        async def score(self, path: Path) -> Score:
            score = await super().score(path)
            if len(self.calls) == 1:
                await asyncio.Event().wait()
            return score

    scorer = Slow({"Step 1: Look.": 0.5})
    tree = question_tree(ScriptedPolicy({"": {"Step 1: Look.": 1.0}}), scorer)

    async def search() -> float:
        ((path,),) = await tree.expand([tree.root], 1)
        waiting = asyncio.create_task(tree.score(path))
        while not scorer.calls:
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        return await tree.score(path)

    assert asyncio.run(search()) == 0.5


@dataclass
class Written:
    """Continues one text by as many characters as it has tokens."""

    text: str
    identity: str = "written"

    async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        begin = len(prompt.prefix)
        said = self.text[begin : begin + sampling.max_tokens]
        ends = begin + len(said) == len(self.text)
        return Proposal((Step(said, tuple(map(ord, said)), 0.0, "eos" if ends else "length"),) * n)


@dataclass(frozen=True)
class Pieces:
    """Pieces of a reply that end at their token limit."""

    joint: str

    def render(self, path: Path) -> Prompt:
        return Prompt(path.question.messages, tuple(step.text + self.joint for step in path.steps))

    def unit(self, path: Path) -> Unit:
        return Unit("piece", tokens=4, partial=True, joint=self.joint)

    def answer(self, text: str) -> str | None:
        return "done" if text.endswith("!") else None


def test_pieces_without_a_joint_are_one_reply_blanks_included() -> None:
    text = "Look at  the map \n and go!"
    (path,) = asyncio.run((tree := question_tree(Written(text), format=Pieces(""))).rollouts(1))
    assert tree.outcome(Choice(path, 0.0, "final")).text == text
    (first,), *_ = asyncio.run((tree := question_tree(Written(" go "), format=Pieces("\n"))).expand([tree.root], 1))
    assert first.step is not None
    assert first.step.text == "go"
