"""Stage-level beam search against brute force, on scripted stages and judges."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from atomthink_plugin.api import Message, Outcome, Path, Prompt, Question, Step
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.formats.stages import STAGES, Stages
from atomthink_plugin.searches.parts.judging import chosen, tournament
from atomthink_plugin.searches.quick import quick
from atomthink_plugin.searches.stage_beam import stage_beam
from tests.searches.scripted_replies import ScriptedReplies
from tests.trees import question, question_tree, settings

RESPONSES = re.compile(r"Response 1: (.*)\n\nResponse 2: (.*)\n\n")


@dataclass(frozen=True)
class Worth:
    """Stages whose worth is a number in their text, drawn at random for each history and sample."""

    seed: int
    width: int = 9

    def candidate(self, history: str, index: int) -> str:
        return f"of worth {random.Random(f'{self.seed} {history} {index}').randrange(self.width)}"

    def write(self, prompt: Prompt, index: int, seed: int) -> str:
        stage = str(prompt.begun[-1]).strip("<>")
        return f"{self.candidate(prompt.prefix, index)} </{stage}>"

    def best(self, samples: int) -> list[str]:
        """Brute force: the best candidate of each stage, after the best ones before it."""
        prefix, chain = "", []
        for stage in STAGES:
            prefix += f"<{stage}>"
            found = max((self.candidate(prefix, i) for i in range(samples)), key=worth)
            chain.append(f"<{stage}> {found} </{stage}>")
            prefix += f" {found} </{stage}>\n\n"
        return chain

    def duels(self, samples: int, chain: list[str]) -> int:
        """How often distinct candidates meet along a chain."""
        prefixes = ["\n\n".join([*chain[:k], f"<{stage}>"]) for k, stage in enumerate(STAGES)]
        return sum(len({self.candidate(prefix, i) for i in range(samples)}) - 1 for prefix in prefixes)


def worth(text: str) -> int:
    return int(re.findall(r"\d+", text)[-1])


def text_of(prompt: Prompt) -> str:
    return "".join(part for turn in prompt.messages for part in turn.parts if isinstance(part, str))


def judged(prompt: Prompt, index: int, seed: int) -> str:
    """An exact judge; it finds no reasoning incorrect."""
    found = RESPONSES.search(text_of(prompt))
    if found is None:
        return "correct"
    return f"Since it is worth more, I choose response {1 if worth(found[1]) >= worth(found[2]) else 2}."


def search(
    policy: ScriptedReplies, judge: ScriptedReplies, candidates: int = 4, asked: Question | None = None, **limits: int
) -> Outcome:
    tree = question_tree(policy, asked=asked, format=Stages(), limits=settings(**limits), judge=judge)
    return tree.outcome(asyncio.run(stage_beam(candidates)(tree)))


@given(st.integers(0, 10**6), st.integers(1, 6))
def test_an_exact_judge_finds_the_best_candidate_of_each_stage(seed: int, candidates: int) -> None:
    script = Worth(seed)
    policy, judge = ScriptedReplies(script.write), ScriptedReplies(judged)
    outcome = search(policy, judge, candidates)
    assert list(outcome.steps) == script.best(candidates)
    assert (outcome.stopped, outcome.answer) == ("final", outcome.steps[-1].split("> ")[1].split(" <")[0])
    assert len(policy.asked) == len(STAGES) * candidates
    duels = [prompt for prompt in judge.asked if RESPONSES.search(text_of(prompt))]
    assert len(duels) == script.duels(candidates, script.best(candidates))
    assert outcome.usage.policy_calls == len(policy.asked) + len(judge.asked)


@given(st.integers(0, 10**6))
def test_one_candidate_is_the_quick_chain_and_needs_no_judge(seed: int) -> None:
    script, judge = Worth(seed), ScriptedReplies(judged)
    outcome = search(ScriptedReplies(script.write), judge, 1)
    tree = question_tree(ScriptedReplies(script.write), format=Stages())
    assert outcome.steps == tree.outcome(asyncio.run(quick()(tree))).steps
    assert judge.asked == []


@pytest.mark.parametrize("candidates", range(1, 9))
def test_a_tournament_has_one_duel_fewer_than_candidates_and_the_order_does_not_matter(candidates: int) -> None:
    paths = [Path(question()).extend(Step(f"of worth {k}")) for k in range(candidates)]
    for seed in range(10):
        met: list[tuple[Path, Path]] = []

        async def fair(first: Path, second: Path, met: list[tuple[Path, Path]] = met) -> Path:
            met.append((first, second))
            return max(first, second, key=lambda path: worth(path.steps[-1].text))

        shuffled = random.Random(seed).sample(paths, candidates)
        assert asyncio.run(tournament(shuffled, fair)) is paths[-1]
        assert len(met) == candidates - 1
        lost = Counter(min(pair, key=lambda path: worth(path.steps[-1].text)).key for pair in met)
        assert all(times == 1 for times in lost.values())


@given(st.integers(0, 10**6), st.integers(2, 5), st.data())
def test_a_spent_budget_ends_the_search_with_what_it_has(seed: int, candidates: int, data: st.DataObject) -> None:
    script = Worth(seed)
    whole = search(ScriptedReplies(script.write), ScriptedReplies(judged), candidates)
    calls = data.draw(st.integers(1, whole.usage.policy_calls))
    outcome = search(ScriptedReplies(script.write), ScriptedReplies(judged), candidates, budget_calls=calls)
    assert outcome.usage.policy_calls <= calls
    assert outcome.stopped == ("final" if outcome.answer is not None else "budget")
    assert len(outcome.steps) == len(STAGES) or outcome.stopped == "budget"
    chains = [tuple(outcome.chains()[node.id]) for node in outcome.nodes if not node.use]
    assert outcome.steps == () or outcome.steps in chains
    if calls == whole.usage.policy_calls:
        assert outcome.steps == whole.steps


@pytest.mark.parametrize(
    ("verdict", "index"),
    [
        ("Since it counts the bars, I choose response 1.", 0),
        ("since it is right, i choose Response [2]", 1),
        ("I choose response 1. No: I choose response **2**.", 1),
        ("Since [reason], I choose response [1/2].", None),
        ("I choose response 12.", None),
        ("Both are fine.", None),
        ("", None),
    ],
)
def test_what_a_verdict_chooses(verdict: str, index: int | None) -> None:
    assert chosen(verdict) == index


@pytest.mark.parametrize("likelier", [0, 1])
def test_without_a_readable_verdict_the_likelier_candidate_wins(likelier: int) -> None:
    def write(prompt: Prompt, index: int, seed: int) -> Step:
        return Step(f"candidate {index}", (1,), -1.0 if index == likelier else -2.0)

    judge = ScriptedReplies(lambda prompt, index, seed: "Both are fine.")
    outcome = search(ScriptedReplies(write), judge, 2)
    assert [f"candidate {likelier}" in step for step in outcome.steps] == [True] * len(STAGES)


def test_reasoning_that_is_called_incorrect_takes_part_in_no_duel() -> None:
    def judge(prompt: Prompt, index: int, seed: int) -> str:
        text = text_of(prompt)
        return "incorrect" if "Response 1" not in text and worth(text) > 1 else judged(prompt, index, seed)

    judging = ScriptedReplies(judge)
    policy = ScriptedReplies(lambda prompt, index, seed: f"of worth {index} {str(prompt.begun[-1]).replace('<', '</')}")
    outcome = search(policy, judging, 4)
    assert [worth(step) for step in outcome.steps] == [3, 3, 1, 3]
    checks = [prompt for prompt in judging.asked if "Response 1" not in text_of(prompt)]
    assert len(checks) == 4
    assert all("Information: of worth 3\n" in text_of(prompt) and not prompt.images for prompt in checks)
    assert len(judging.asked) - len(checks) == 3 + 3 + 1 + 3


def test_where_all_reasoning_is_called_incorrect_the_duels_decide() -> None:
    def judge(prompt: Prompt, index: int, seed: int) -> str:
        return judged(prompt, index, seed) if "Response 1" in text_of(prompt) else "Incorrect: 4 + 7 is 11."

    policy = ScriptedReplies(lambda prompt, index, seed: f"of worth {index} {str(prompt.begun[-1]).replace('<', '</')}")
    assert [worth(step) for step in search(policy, ScriptedReplies(judge), 3).steps] == [2, 2, 2, 2]


def test_the_judge_sees_the_question_the_hint_and_both_candidates_without_tags() -> None:
    image = Image.new("RGB", (1, 1))
    asked = Question("q", (Message("user", (image, "How many bars?")),))
    judge = ScriptedReplies(judged)
    policy = ScriptedReplies(
        lambda prompt, index, seed: f"{str(prompt.begun[-1])[1:4]} {index} {str(prompt.begun[-1]).replace('<', '</')}"
    )
    search(policy, judge, 2, asked=asked)
    duels = [prompt for prompt in judge.asked if "Response 1" in text_of(prompt)]
    assert len(duels) == len(STAGES)
    for prompt, stage in zip(duels, STAGES, strict=True):
        assert prompt.images == (image,)
        text = text_of(prompt)
        assert f"Response 1: {stage[:3]} 0\n\nResponse 2: {stage[:3]} 1\n\n" in text
        assert "How many bars?" in text
        assert "<SUMMARY>" not in text
    hints = [re.findall(r"(?:SUM|CAP|REA) \d", text_of(prompt).partition("Response 1")[0]) for prompt in duels]
    assert hints == [[], [], ["CAP 1"], ["CAP 1", "REA 1"]]


def test_the_policy_judges_where_it_is_the_judge_and_verdicts_are_nodes_of_their_own() -> None:
    script = Worth(1)

    def both(prompt: Prompt, index: int, seed: int) -> str:
        return script.write(prompt, index, seed) if prompt.begun else judged(prompt, index, seed)

    policy = ScriptedReplies(both)
    outcome = search(policy, policy, 4)
    assert list(outcome.steps) == script.best(4)
    uses: Counter[str] = Counter()
    for node in outcome.nodes:  # equal verdicts are one node
        uses[node.use] += node.multiplicity
    assert uses["judge"] == script.duels(4, script.best(4))
    assert uses.total() == len(policy.asked)


def test_other_formats_are_judged_step_by_step() -> None:
    def write(prompt: Prompt, index: int, seed: int) -> str:
        number = prompt.prefix.count("Step") + 1
        return f"Step {number}: {'The final answer is:' if number == 3 else 'By way of'} {'abc'[number - 1]}{index}."

    judge = ScriptedReplies(judged)
    tree = question_tree(ScriptedReplies(write), format=Continue(), judge=judge)
    outcome = tree.outcome(asyncio.run(stage_beam(3)(tree)))
    assert outcome.steps == ("Step 1: By way of a2.", "Step 2: By way of b2.", "Step 3: The final answer is: c2.")
    assert outcome.answer == "c2"
    assert len(judge.asked) == 3 * 2
    assert "Step 1: By way of a2.\n\nStep 2: By way of b2." in text_of(judge.asked[-1])
