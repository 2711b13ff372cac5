"""Requests outside the chain, steps written by the search, and further roots."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from atomthink_plugin.api import AtomThinkError, Choice, Message, Node, Path, Prompt, Proposal, Question, Sampling, Unit
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.runtime.tree import QuestionTree
from atomthink_plugin.testing import ScriptedPolicy, ScriptedScorer, history_in, history_of
from tests.trees import question, question_tree, settings

DIGITS = {str(digit): 0.1 for digit in range(10)}
STEP = "Step 1: Look."
SAMPLES = 12
JUDGE = Prompt((Message("user", ("Which is better?",)),))
OTHER = Prompt((Message("user", ("Which is worse?",)),))


def answers(prompt: Prompt) -> Mapping[str, float]:
    """A step, or a digit for other prompts."""
    instruction = str(prompt.messages[-1].parts[-1])
    return {STEP: 0.5, "7": 0.5} if "small steps" in instruction else DIGITS


def tree_for(policy: ScriptedPolicy | None = None, **limits: int) -> QuestionTree:
    return question_tree(policy or ScriptedPolicy(answers), limits=settings(**limits))


def texts(paths: list[Path]) -> list[str]:
    return [path.step.text if path.step else "" for path in paths]


def asked(
    prompt: Prompt = JUDGE, n: int = SAMPLES, use: str = "judge", first: int = 0, id: str = "q", seed: int = 0
) -> list[str]:
    """The replies of a new tree."""
    tree = question_tree(ScriptedPolicy(answers), asked=question(id), limits=settings(seed=seed))
    return texts(asyncio.run(tree.ask(tree.root, prompt, n, use=use, first=first)))


def nodes_of(tree: QuestionTree, path: Path | None = None) -> tuple[Node, ...]:
    return tree.outcome(Choice(path or tree.root, 0.0, "final")).nodes


def test_samples_depend_only_on_use_prompt_node_and_seed() -> None:
    crop = replace(JUDGE, messages=(Message("user", (Image.new("RGB", (2, 2), "red"), "Which is better?")),))
    blue = replace(JUDGE, messages=(Message("user", (Image.new("RGB", (2, 2), "blue"), "Which is better?")),))
    begun = replace(JUDGE, begun=("I think",))
    draws = [
        asked(),
        asked(use="critic"),
        asked(OTHER),
        asked(begun),
        asked(crop),
        asked(blue),
        asked(id="r"),
        asked(seed=1),
    ]
    assert len({tuple(draw) for draw in draws}) == len(draws)
    assert asked() == draws[0]
    assert asked(crop) == draws[4]
    assert len(set(draws[0])) < SAMPLES  # equal replies stay: the votes of a judge are counted


@given(st.integers(1, 8), st.integers(0, 8))
def test_replies_are_the_samples_starting_at_first_in_order(n: int, first: int) -> None:
    assert asked(n=n, first=first) == asked(n=16)[first : first + n]


def test_the_temperature_of_retries_does_not_affect_asks() -> None:
    temperatures: list[float] = []

    class Notes(ScriptedPolicy):
        async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
            temperatures.extend(sampling.temperature_of(i) for i in range(n))
            return await super().propose(prompt, n, sampling)

    tree = tree_for(Notes(answers), temperature=0.25, rise=0.5)  # type: ignore[arg-type]
    asyncio.run(tree.ask(tree.root, JUDGE, 3, use="judge"))
    asyncio.run(tree.ask(tree.root, JUDGE, 2, use="judge", temperature=0.0))
    assert temperatures == [0.25, 0.25, 0.25, 0.0, 0.0]


def test_a_reply_and_a_step_of_the_same_text_are_different_nodes() -> None:
    tree = tree_for()

    async def search() -> tuple[list[Path], list[Path], list[Path]]:
        (steps,) = await tree.expand([tree.root], 30, format=Bare())
        judged = await tree.ask(tree.root, JUDGE, 30, use="judge")
        critic = await tree.ask(tree.root, JUDGE, 30, use="critic")
        return steps, judged, critic

    steps, judged, critic = asyncio.run(search())
    keys = [{path.key for path in paths if path.steps[-1].text == "7"} for paths in (steps, judged, critic)]
    assert [len(each) for each in keys] == [1, 1, 1]
    assert len(set.union(*keys)) == 3
    kinds = {(node.use, node.unit) for node in nodes_of(tree) if node.text == "7"}
    assert kinds == {("", "step"), ("judge", "reply"), ("critic", "reply")}
    assert {path.steps[-1].use.partition("#")[0] for path in judged} == {"judge"}
    assert sum(node.multiplicity for node in nodes_of(tree) if node.use == "judge") == 30


class Bare:
    """Steps that are a digit."""

    def render(self, path: Path) -> Prompt:
        return Prompt((Message("user", ("small steps",)),))

    def unit(self, path: Path) -> Unit | None:
        return Unit("step")

    def answer(self, text: str) -> str | None:
        return None


@given(st.integers(1, 12), st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_asks_count_in_the_budget_of_calls_and_end_with_it(calls: int, sizes: list[int]) -> None:
    policy = ScriptedPolicy(answers)
    tree = tree_for(policy, budget_calls=calls)

    async def search() -> list[int]:
        return [len(await tree.ask(tree.root, JUDGE, n, use="judge", first=100 * n)) for n in sizes]

    counts = asyncio.run(search())
    assert sum(counts) == tree.usage.policy_calls == min(calls, sum(sizes)) == sum(n for *_, n in policy.calls)
    if sum(sizes) >= calls:
        assert asyncio.run(tree.ask(tree.root, JUDGE, use="judge")) == []
        assert tree.why(tree.root) == "budget"
        assert asyncio.run(tree.expand([tree.root], 1)) == [[]]


def test_asks_count_in_the_budget_of_tokens() -> None:
    tree = tree_for(budget_tokens=5)

    async def search() -> list[int]:
        unit = Unit("verdict", tokens=2, partial=True)
        return [len(await tree.ask(tree.root, JUDGE, 1, use="judge", unit=unit, first=i)) for i in range(8)]

    assert asyncio.run(search()) == [1] * 5 + [0] * 3
    assert tree.usage.generated == 5


def test_a_search_returns_its_best_path_when_the_budget_is_spent() -> None:
    tree = tree_for(budget_calls=2)

    async def search() -> Choice:
        ((path,),) = await tree.expand([tree.root], 1, format=Bare())
        while verdicts := await tree.ask(path, JUDGE, use="judge"):
            path = verdicts[0]
        return Choice(path, 0.0, tree.why(path))

    outcome = tree.outcome(asyncio.run(search()))
    assert (outcome.stopped, len(outcome.steps), outcome.usage.policy_calls) == ("budget", 2, 2)


@given(st.integers(0, 9999), st.none() | st.integers(1, 12), st.none() | st.integers(1, 20))
def test_results_do_not_depend_on_the_order_of_arrival(seed: int, calls: int | None, tokens: int | None) -> None:
    unit = Unit("verdict", tokens=3, partial=True)

    def outcome(policy: ScriptedPolicy) -> tuple[object, ...]:
        limits = settings(budget_calls=calls, budget_tokens=tokens, retries=0)  # type: ignore[arg-type]
        tree = question_tree(policy, limits=limits)

        async def search() -> list[list[str]]:
            *replies, (family,) = await asyncio.gather(
                tree.ask(tree.root, JUDGE, 3, use="judge", unit=unit),
                tree.ask(tree.root, JUDGE, 2, use="critic", unit=unit),
                tree.ask(tree.root, OTHER, 2, use="judge", unit=unit),
                tree.expand([tree.root], 2, first=10),
            )
            return [texts(paths) for paths in [*replies, family, await tree.rollouts(2)]]

        return asyncio.run(search()), nodes_of(tree), tree.usage

    chance = random.Random(seed)
    slow = ScriptedPolicy(chain, delay=lambda prompt, n: chance.randrange(8))
    assert outcome(slow) == outcome(ScriptedPolicy(chain))


def chain(prompt: Prompt) -> Mapping[str, float]:
    history = history_in(prompt)
    if "small steps" not in str(prompt.messages[-1].parts[-1]):
        return DIGITS
    return {"Step 2: The final answer is: 4.": 1.0} if history else {STEP: 0.5, "": 0.5}


def test_concurrent_calls_are_all_paid_by_a_sufficient_budget() -> None:
    tree = tree_for(ScriptedPolicy(chain, delay=lambda prompt, n: 3), budget_calls=60)

    async def search() -> list[int]:
        found = await asyncio.gather(
            tree.rollouts(1),
            tree.expand([tree.root], 1, first=50),
            tree.expand([tree.root], 1, first=60),
            tree.ask(tree.root, JUDGE, use="judge"),
            tree.rollouts(1, first=7),
        )
        return [len(found[0]), len(found[1][0]), len(found[2][0]), len(found[3]), len(found[4])]

    assert asyncio.run(search()) == [1] * 5


def test_a_request_that_fails_gives_back_its_grant() -> None:
    def fails(prompt: Prompt) -> None:
        if prompt.messages == JUDGE.messages:
            raise ConnectionError("away")

    tree = tree_for(ScriptedPolicy(answers, fails=fails), budget_calls=3)

    async def search() -> list[Path]:
        with pytest.raises(ConnectionError):
            await tree.ask(tree.root, JUDGE, 3, use="judge")
        return await tree.ask(tree.root, OTHER, 3, use="judge")

    assert len(asyncio.run(search())) == 3


def test_a_unit_cuts_and_checks_replies() -> None:
    def refuses(text: str, history: object) -> str | None:
        return "odd" if int(text.split()[-1].removesuffix("</V>")) % 2 else None

    unit = Unit("verdict", closing="</V>", cut=str.strip, check=refuses)
    tree = tree_for()
    replies = asyncio.run(tree.ask(tree.root, JUDGE, 20, use="judge", unit=unit, read=lambda text: text[:-4]))
    assert texts(replies) == [f"{digit}</V>" for digit in asked(n=20) if int(digit) % 2 == 0]
    assert all(path.answer == path.steps[-1].text[0] for path in replies)
    rejected = {node.text: node.rejected for node in nodes_of(tree)}
    assert {text: reason for text, reason in rejected.items() if reason} == {
        f"{digit}</V>": "odd" for digit in set(asked(n=20)) if int(digit) % 2
    }


def test_a_reply_cut_by_its_token_limit_is_valid_only_for_partial_units() -> None:
    policy = ScriptedPolicy(lambda prompt: {"one two three": 1.0})
    for partial in (False, True):
        tree = tree_for(policy)
        unit = Unit("verdict", tokens=2, partial=partial)
        replies = asyncio.run(tree.ask(tree.root, JUDGE, use="judge", unit=unit))
        assert texts(replies) == (["one two"] if partial else [])
    assert tree.usage.generated == 2


# --- roles -------------------------------------------------------------------------------------


def test_another_role_is_asked_and_its_steps_go_to_a_third_as_text() -> None:
    prompts: list[Prompt] = []

    class Notes(ScriptedPolicy):
        async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
            prompts.append(prompt)
            return await super().propose(prompt, n, sampling)

    main, judge = ScriptedPolicy(answers), Notes(answers, identity="judge")
    tree = question_tree(main, judge=judge, twin=Notes(answers))

    async def search() -> Path:
        ((step,),) = await tree.expand([tree.root], 1, format=Bare())
        (verdict,) = await tree.ask(step, JUDGE, use="judge", role="judge")
        begun = ("Well. ", step.steps[0], verdict.steps[1])
        await tree.ask(verdict, replace(JUDGE, begun=begun), use="again", role="judge")
        (last,) = await tree.ask(verdict, replace(JUDGE, begun=begun), use="again", role="twin")
        return last

    path = asyncio.run(search())
    first, second = path.steps[0], path.steps[1]
    assert (len(main.calls), len(judge.calls)) == (1, 2)
    # The twin is the same model as the run's policy.
    assert [prompt.begun for prompt in prompts[1:]] == [
        ("Well. ", first.text, second),
        ("Well. ", first, second.text),
    ]
    assert [step.role for step in path.steps] == ["policy", "judge", "twin"]
    assert {(node.role, node.use) for node in nodes_of(tree)} >= {("policy", ""), ("judge", "judge")}
    assert tree.usage.policy_calls == 4


def test_a_role_may_expand_a_chain() -> None:
    tree = question_tree(ScriptedPolicy({}), other=ScriptedPolicy({"": {STEP: 1.0}}))
    ((path,),) = asyncio.run(tree.expand([tree.root], 2, role="other"))
    assert (path.steps[0].role, path.steps[0].multiplicity) == ("other", 2)


# --- written steps -----------------------------------------------------------------------------


def test_a_written_step_is_part_of_the_chain_and_costs_nothing() -> None:
    final = "Step 3: The final answer is: 4."
    policy = ScriptedPolicy({"": {STEP: 1.0}, f"{STEP}\n\nWait, look again.": {final: 1.0}})
    scorer = ScriptedScorer(lambda history: len(history) / 100)
    tree = question_tree(policy, scorer, limits=settings(budget_calls=2))

    async def search() -> Choice:
        ((path,),) = await tree.expand([tree.root], 1)
        written = tree.write(path, "Wait, look again.", Unit("reflection"))
        ((last,),) = await tree.expand([written], 1)
        return Choice(last, await tree.value(last, "min"), tree.why(last))

    choice = asyncio.run(search())
    outcome = tree.outcome(choice)
    assert outcome.steps == (STEP, "Wait, look again.", final)
    assert outcome.text == "\n\n".join(outcome.steps)
    assert (outcome.answer, outcome.value, outcome.usage.policy_calls) == ("4", len(STEP) / 100, 2)
    (node,) = [node for node in outcome.nodes if node.unit == "reflection"]
    assert (node.role, node.tokens, node.parent) == ("", 0, choice.path.lineage[0].key)


def test_rollouts_start_anywhere_and_only_those_from_the_root_are_candidates() -> None:
    policy = ScriptedPolicy(chain)
    tree = tree_for(policy)

    async def search() -> list[list[Path]]:
        written = tree.write(tree.root, "Think of a number.")
        (judged,) = await tree.ask(tree.root, JUDGE, use="judge")
        done = tree.write(written, "It is 4.", answer="4")
        return [await tree.rollouts(2, start=start) for start in (written, judged, done, tree.root)]

    written, judged, done, plain = asyncio.run(search())
    for paths in (written, judged):
        assert [len(path.steps) for path in paths] == [2, 2]
        assert {path.answer for path in paths} == {"4"}
    assert [history_of(path) for path in done] == ["Think of a number.\n\nIt is 4."] * 2
    rollouts = tree.outcome(Choice(plain[0], 0.0, "final")).rollouts
    assert [rollout.end for rollout in rollouts] == [path.key for path in plain]


# --- further roots -----------------------------------------------------------------------------


def reordered(asked: Question) -> Question:
    return replace(asked, choices=("blue", "red"))


def test_two_roots_share_no_node_no_score_and_no_draw() -> None:
    final = {f"Step 1: The final answer is: {digit}.": 0.1 for digit in range(10)}
    policy = ScriptedPolicy({"": final})
    scorer = ScriptedScorer(lambda history: 0.5)
    tree = question_tree(policy, scorer, asked=replace(question(), choices=("red", "blue")))

    async def search() -> tuple[Path, list[Path], list[Path], list[Path]]:
        second = tree.begin(reordered(tree.question))
        ours = await tree.rollouts(SAMPLES)
        theirs = await tree.rollouts(SAMPLES, start=second)
        (family,) = await tree.expand([second], 2)
        await asyncio.gather(*(tree.score(path) for path in [*ours, *theirs]))
        return second, ours, theirs, family

    second, ours, theirs, _ = asyncio.run(search())
    assert texts(ours) != texts(theirs)
    assert not {path.key for path in ours} & {path.key for path in theirs}
    assert len(scorer.calls) == len({path.key for path in [*ours, *theirs]})
    assert second.question.choices == ("blue", "red")
    assert tree.begin(reordered(tree.question)).key == second.key != tree.root.key
    assert tree.begin(tree.question) == tree.root
    chosen = theirs[0]
    outcome = tree.outcome(Choice(chosen, 1.0, "final", answer="B"))
    assert (outcome.answer, outcome.scores, outcome.steps) == ("B", (0.5,), (chosen.steps[0].text,))
    assert Counter(node.parent for node in outcome.nodes).keys() == {"root", second.key}


def test_a_further_root_has_the_history_of_its_question() -> None:
    tree = question_tree(ScriptedPolicy({STEP: {"Step 2: The answer is 1.": 1.0}}))
    root = tree.begin(replace(tree.question, history=(STEP,)))
    (path,) = asyncio.run(tree.rollouts(1, start=root))
    assert tree.outcome(Choice(path, 0.0, "final")).text == f"{STEP}\n\nStep 2: The answer is 1."


def test_a_path_that_is_not_in_the_tree_is_refused() -> None:
    tree = question_tree(ScriptedPolicy({"": {STEP: 1.0}}))
    ((path,),) = asyncio.run(tree.expand([tree.root], 1))
    with pytest.raises(AtomThinkError):
        tree.outcome(Choice(tree.root.extend(path.steps[0]).extend(path.steps[0]), 0.0, "final"))
    assert Continue().unit(path) is not None
