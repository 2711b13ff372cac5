"""Monte-Carlo tree search against a naive version of itself, and where it ends."""

from __future__ import annotations

import asyncio
import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from atomthink_plugin.api import AtomThinkError, Choice, Outcome, Path, Prompt, Sampling, Search, Step
from atomthink_plugin.formats.direct import Direct
from atomthink_plugin.formats.mini import Mini
from atomthink_plugin.formats.steps import SEPARATOR
from atomthink_plugin.runtime.tree import QuestionTree
from atomthink_plugin.searches.mcts import mcts
from atomthink_plugin.searches.parts.reflection import REFLECTION
from atomthink_plugin.searches.parts.token_confidence import chain_confidence, token_confidence
from atomthink_plugin.searches.parts.uct import UctNode
from atomthink_plugin.testing import ScriptedPolicy, ScriptedScorer, history_of
from tests.searches.scripted_replies import ScriptedReplies
from tests.trees import Grove, groves, question, question_tree, settings, tree_of


def solve(search: Search, tree: QuestionTree) -> tuple[Choice, Outcome]:
    choice = asyncio.run(search(tree))
    return choice, tree.outcome(choice)


def mean(rewards: list[float]) -> float:
    return reduce(add, rewards, 0.0) / len(rewards)


def key(history: str) -> str:
    return reduce(Path.extend, map(Step, history.split(SEPARATOR)), Path(question())).key


@dataclass
class Naive:
    """Monte-Carlo tree search on plain strings, which counts all its simulations again for every number."""

    grove: Grove
    seed: int
    width: int
    exploration: float
    children: dict[str, list[str]] = field(default_factory=dict)
    simulations: list[tuple[list[str], str, float]] = field(default_factory=list)

    def draw(self, history: str, index: int) -> str:
        options = self.grove.tree[history]
        node = f"q\0{key(history) if history else 'root'}"
        seed = Sampling(seed=self.seed, first=index, key=node).seed_of(0)
        (text,) = random.Random(seed).choices(list(options), list(options.values()))
        return SEPARATOR.join(filter(None, [history, text]))

    def rewards(self, history: str) -> list[float]:
        return [reward for nodes, _, reward in self.simulations if history in nodes]

    def known(self, history: str) -> bool:
        if history in self.grove.answers:
            return bool(self.rewards(history))
        return history in self.children and all(map(self.known, self.children[history]))

    def bound(self, history: str, parent: str) -> float:
        own = self.rewards(history)
        return mean(own) + self.exploration * math.sqrt(math.log(len(self.rewards(parent))) / len(own))

    def simulate(self, reward: Callable[[str], float]) -> None:
        at, nodes = "", [""]
        while at in self.children:
            new = [child for child in self.children[at] if not self.rewards(child)]
            at = new[0] if new else max(self.children[at], key=lambda child: self.bound(child, nodes[-1]))
            nodes.append(at)
        if at not in self.grove.answers and (at == "" or self.rewards(at)):
            self.children[at] = list(dict.fromkeys(self.draw(at, index) for index in range(self.width)))
            at = self.children[at][0]
            nodes.append(at)
        index = self.width + len(self.simulations)
        while at not in self.grove.answers:
            at = self.draw(at, index)
        self.simulations.append((nodes, at, reward(at)))

    def best(self) -> float:
        at = ""
        while not self.known("") and any(map(self.rewards, self.children.get(at, ()))):
            visited = [child for child in self.children[at] if self.rewards(child)]
            at = max(visited, key=lambda child: (len(self.rewards(child)), mean(self.rewards(child))))
        return max(self.rewards(at))


VISITS = re.compile(r"visits (\d+), value (\d\.\d\d)(?:, simulation (\d+))?")


@examples(max_examples=60)
@given(
    groves(depth=4), st.integers(1, 12), st.integers(1, 3), st.sampled_from([0.0, 0.3, 1.414, 5.0]), st.integers(0, 99)
)
def test_visits_and_values_are_those_of_a_naive_search(
    grove: Grove, simulations: int, width: int, exploration: float, seed: int
) -> None:
    choice, outcome = solve(mcts(simulations, width, exploration, "prod"), tree_of(grove, seed=seed))
    naive = Naive(grove, seed, width, exploration)
    while len(naive.simulations) < simulations and not naive.known(""):
        naive.simulate(lambda leaf: grove.value(leaf, "prod"))
    expected = {history for nodes, _, _ in naive.simulations for history in nodes if history}
    found = {node.id: match for node in outcome.nodes if (match := VISITS.fullmatch(node.note))}
    assert found.keys() == set(map(key, expected))
    for history in expected:
        visits, value, _ = found[key(history)].groups()
        assert int(visits) == len(naive.rewards(history))
        assert float(value) == pytest.approx(mean(naive.rewards(history)), abs=0.00501)
    ends = {node.id: int(node.note.rpartition(" ")[2]) for node in outcome.nodes if "simulation" in node.note}
    first = {key(leaf): number for number, (_, leaf, _) in reversed([*enumerate(naive.simulations, 1)])}
    assert ends == first
    assert choice.value == pytest.approx(naive.best())
    assert choice.value == pytest.approx(grove.value(history_of(choice.path), "prod"))


@examples(max_examples=25)
@given(groves())
def test_with_enough_simulations_it_finds_the_best_chain_of_the_whole_tree(grove: Grove) -> None:
    tree = tree_of(grove, exhaustive=True)
    choice, outcome = solve(mcts(3000, grove.width, 1.414, "mean"), tree)
    assert choice.value == pytest.approx(max(grove.value(leaf, "mean") for leaf in grove.answers))
    assert choice.stopped == "final"
    assert len([node for node in outcome.nodes if node.answer is not None]) == len(grove.answers)
    # Every chain is known, and nodes were asked for their children once; simulations added chains in between.
    assert outcome.usage.policy_calls < 3000


@given(groves(depth=4), st.integers(1, 40), st.integers(0, 99), st.booleans())
def test_a_budget_is_kept_and_the_best_chain_so_far_answers(grove: Grove, calls: int, seed: int, reflect: bool) -> None:
    thinks = {f"{leaf}{SEPARATOR}{REFLECTION}": {leaf.split(SEPARATOR)[-1]: 1.0} for leaf in grove.answers}
    policy = ScriptedPolicy({**grove.tree, **thinks})
    tree = question_tree(policy, ScriptedScorer(lambda history: 0.5), limits=settings(seed=seed, budget_calls=calls))
    choice, outcome = solve(mcts(reflect=reflect), tree)
    assert outcome.usage.policy_calls <= calls
    assert outcome.steps
    answered = any(node.answer is not None and "value" in node.note for node in outcome.nodes)
    assert choice.path.final or not answered


RIGHT, WRONG = "Step 1: The final answer is: 1.", "Step 1: The final answer is: 2."


def test_equal_rewards_go_to_the_likelier_chain_and_then_to_the_first() -> None:
    for likely, expected in ((0.3, "2"), (0.5, "1")):
        grove = Grove({"": {RIGHT: likely, WRONG: 1 - likely}}, {RIGHT: 0.5, WRONG: 0.5}, {})
        choice, _ = solve(mcts(children=2), tree_of(grove, exhaustive=True))
        assert choice.path.answer == expected


def test_a_chain_without_an_answer_is_worth_nothing() -> None:
    long, middle = "Step 1: Take the long road.", "Step 2: Walk on."
    tree = {"": {long: 0.5, RIGHT: 0.5}, long: {middle: 1.0}, f"{long}{SEPARATOR}{middle}": {"Step 3: On.": 1.0}}
    scorer = ScriptedScorer(lambda history: 0.2 if history == RIGHT else 1.0)
    policy = ScriptedPolicy(tree, exhaustive=True)
    tree_ = question_tree(policy, scorer, limits=settings(max_steps=2))
    choice, outcome = solve(mcts(), tree_)
    assert choice.path.answer == "1"
    notes = {node.text: node.note for node in outcome.nodes}
    # The search ends when `middle` is reached again and has no children: nothing is left to find.
    assert notes == {long: "visits 3, value 0.00", middle: "visits 2, value 0.00, simulation 1", RIGHT: notes[RIGHT]}
    assert notes[RIGHT].startswith("visits ")
    only = ScriptedPolicy({"": {long: 1.0}, long: {middle: 1.0}})
    choice, _ = solve(mcts(), question_tree(only, scorer, limits=settings(max_steps=2)))
    assert (history_of(choice.path), choice.value, choice.stopped) == (f"{long}{SEPARATOR}{middle}", 0.0, "depth")


def test_the_most_visited_child_answers_and_of_equal_ones_that_with_the_higher_mean_then_the_first() -> None:
    paths = [Path(question()).extend(Step(name)) for name in "abcd"]
    for statistics, chosen in (
        ([(3, 0.3), (2, 1.8), (0, 0.0)], 0),
        ([(2, 0.3), (2, 1.8), (2, 0.9)], 1),
        ([(1, 0.3), (2, 0.9), (2, 0.9)], 1),
        ([(0, 0.0), (0, 0.0), (1, 0.1)], 2),
    ):
        root = UctNode(Path(question()))
        root.children = [
            UctNode(path, root, visits=visits, total=total)
            for path, (visits, total) in zip(paths, statistics, strict=False)
        ]
        assert root.most_visited() is root.children[chosen]


def test_an_answer_without_any_reward_ranks_before_a_chain_without_an_answer() -> None:
    root = UctNode(Path(question()))
    answered = Path(question()).extend(Step("a", (0,), -9.0), "1")
    for chain in (Path(question()).extend(Step("b", (0,), -0.1)), answered, Path(question()).extend(Step("c"))):
        root.offer(0.0, chain)
    assert root.best == (0.0, answered)


def test_the_best_chain_answers_if_the_most_visited_one_has_no_answer() -> None:
    def reply(prompt: Prompt, index: int, seed: int) -> str:
        number = prompt.prefix.count("Step ") + 1
        if number == 2 and index >= 3:  # the first simulation; the expansion finds another step
            return "Step 2: The final answer is: 1."
        return f"Step {number}: Walk to {number}."

    tree = question_tree(ScriptedReplies(reply), ScriptedScorer(lambda history: 0.4), limits=settings(max_steps=3))
    choice, outcome = solve(mcts(simulations=2, children=3), tree)
    assert (choice.path.answer, choice.value, choice.stopped) == ("1", pytest.approx(0.4), "final")
    assert {node.text: node.note for node in outcome.nodes}["Step 2: Walk to 2."].startswith("visits 1, value 0.00")


def test_a_history_that_concludes_is_the_answer_and_asks_nothing() -> None:
    policy = ScriptedPolicy({})
    tree = question_tree(policy, asked=replace(question(), history=(RIGHT,)))
    choice, _ = solve(mcts(reflect=True), tree)
    assert (choice.path.answer, choice.stopped, policy.calls) == ("1", "final", [])


def test_whole_replies_are_refused() -> None:
    with pytest.raises(AtomThinkError, match=r"search=mcts"):
        solve(mcts(), question_tree(ScriptedPolicy({}), format=Direct()))


# --- the reward without a PRM ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        # Probabilities 0.4, 0.2, 0.1, 0.1, 0.1 of the five likeliest tokens: 0.9 in all.
        ([0.2, 0.4, 0.2, 0.1, 0.1, 0.1], 0.2 / 0.9),
        ([0.4, 0.4, 0.2, 0.1, 0.1, 0.1], 0.4 / 0.9),
        ([0.05, 0.4, 0.2, 0.1, 0.1, 0.1], 0.05 / 0.9),  # not among them: they stay the denominator
        ([0.05, 0.4, 0.2, 0.1, 0.1, 0.1, 0.05], 0.05 / 0.9),  # a sixth does not count
        ([0.25, 0.75, 0.25], 0.25),  # a vocabulary of two
        ([1.0, 1.0], 1.0),
        ([1e-300, 1.0], 0.0),
    ],
)
def test_the_confidence_of_a_token_is_its_share_among_the_five_likeliest(
    position: list[float], expected: float
) -> None:
    assert token_confidence([math.log(p) for p in position]) == pytest.approx(expected)


def test_the_confidence_of_a_chain_is_the_average_of_its_sampled_tokens() -> None:
    half, sure = (math.log(0.5), math.log(0.5), math.log(0.5)), (0.0, 0.0)
    path = Path(question()).extend(Step("a b c", (1, 2, 3), tops=(half, sure, sure))).extend(Step("given", role=""))
    assert chain_confidence(path) == pytest.approx(2.5 / 3)
    assert chain_confidence(path.extend(Step("d", (4,), tops=(half,)))) == pytest.approx(3.0 / 4)
    assert chain_confidence(Path(question()).extend(Step("given", role=""))) == 0.0
    for tops in ((), (half,), (half, (0.0,))):
        with pytest.raises(AtomThinkError, match="prm="):
            chain_confidence(path.extend(Step("e f", (5, 6), tops=tops)))


def confident(policy: ScriptedPolicy | ScriptedReplies, **limits: int) -> QuestionTree:
    limited = settings(**limits)
    return question_tree(policy, limits=replace(limited, sampling=replace(limited.sampling, tops=5)))


def test_without_a_prm_a_chain_is_worth_the_confidence_of_its_tokens() -> None:
    tree = {"": {RIGHT: 0.75, WRONG: 0.25}}
    choice, outcome = solve(mcts(children=2), confident(ScriptedPolicy(tree, exhaustive=True)))
    # Seven words, the last of which has one alternative.
    assert choice.value == pytest.approx((6 + 0.75) / 7)
    assert {node.answer: node.note.split(", ")[1] for node in outcome.nodes} == {"1": "value 0.96", "2": "value 0.89"}


def test_a_policy_that_gives_no_alternatives_needs_a_prm() -> None:
    policy = ScriptedPolicy({"": {RIGHT: 1.0}})
    with pytest.raises(AtomThinkError, match="prm="):
        solve(mcts(), question_tree(policy))
    choice, _ = solve(mcts(), question_tree(policy, ScriptedScorer(lambda history: 0.25)))
    assert choice.value == 0.25


# --- reflection -----------------------------------------------------------------------------------

READ, FIRST = "Step 1: Read red = 4.", "Step 2: The final answer is: 5."
THOUGHT = SEPARATOR.join([READ, FIRST, REFLECTION])


def test_the_second_thought_may_repeat_steps_and_answers() -> None:
    again = {THOUGHT: {READ: 1.0}, f"{THOUGHT}{SEPARATOR}{READ}": {"Step 2: The final answer is: 4.": 1.0}}
    policy = ScriptedPolicy({"": {READ: 1.0}, READ: {FIRST: 1.0}, **again})
    choice, outcome = solve(mcts(reflect=True), confident(policy))
    assert outcome.steps == (READ, FIRST, REFLECTION, READ, "Step 2: The final answer is: 4.")
    assert (outcome.answer, choice.stopped) == ("4", "final")
    assert [(node.role, node.unit) for node in outcome.nodes if node.text == REFLECTION] == [("", "reflection")]
    assert all(node.rejected is None for node in outcome.nodes)


def test_the_first_answer_counts_if_the_second_thought_has_none() -> None:
    policy = ScriptedPolicy({"": {READ: 1.0}, READ: {FIRST: 1.0}, THOUGHT: {"": 1.0}})
    choice, outcome = solve(mcts(reflect=True), confident(policy, retries=1))
    assert outcome.steps == (READ, FIRST)
    assert (outcome.answer, choice.value) == ("5", 1.0)


def test_mini_steps_reflect_after_a_blank_line_and_read_the_second_answer() -> None:
    first, second = "<Thought> 2 + 2 </Thought> <Output> 5 </Output>", "<Thought> 4 </Thought> <Output> 4 </Output>"

    def reply(prompt: Prompt, index: int, seed: int) -> Step:
        """Writes a piece of seven characters of the two replies."""
        _, wait, after = prompt.prefix.partition(f"{SEPARATOR}{REFLECTION}{SEPARATOR}")
        text = second[len(after) :] if wait else first[len(prompt.prefix) :]
        tops = ((0.0, 0.0),)
        return Step(text[:7], (0,), 0.0, "length" if text[7:] else "eos", tops=tops)

    tree = question_tree(ScriptedReplies(reply), format=Mini(), limits=settings(max_steps=40))
    _, outcome = solve(mcts(reflect=True), tree)
    assert outcome.text == f"{first}{SEPARATOR}{REFLECTION}{SEPARATOR}{second}"
    assert outcome.answer == "4"


def test_the_draws_of_expansions_and_simulations_never_repeat() -> None:
    seen: list[tuple[str, int]] = []

    def reply(prompt: Prompt, index: int, seed: int) -> Step:
        depth = prompt.prefix.count("Step ")
        seen.append((prompt.prefix, index))
        text = f"Step {depth + 1}: way {index}."
        return Step(text if depth < 2 else f"{text} The final answer is: {index}.", (0,), -1.0, tops=((-1.0, -0.5),))

    solve(mcts(simulations=40), confident(ScriptedReplies(reply)))
    assert len(seen) == len(set(seen))
    assert {index for _, index in seen if index < 3} == {0, 1, 2}
