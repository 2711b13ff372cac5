"""Retracing search against brute force over the whole pool, on scripted stages and scores."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.api import AtomThinkError, Message, Outcome, Prompt, Question
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.formats.stages import STAGES, Stages
from atomthink_plugin.scorers.confidence import Confidence
from atomthink_plugin.searches.swires import swires
from atomthink_plugin.testing import ScriptedScorer
from tests.searches.scripted_replies import ScriptedReplies
from tests.trees import question_tree, settings


@dataclass
class Script:
    """Random stages. `width` different texts at each node, so that few of them repeat often."""

    seed: int
    width: int = 1000
    drawn: list[tuple[str, int]] = field(default_factory=list)

    def text(self, history: str, stage: str, index: int) -> str:
        word = random.Random(f"{self.seed} {history} {index}").randrange(self.width)
        return f"<{stage}> {stage.lower()} {word} </{stage}>"

    def write(self, prompt: Prompt, index: int, seed: int) -> str:
        stage = str(prompt.begun[-1]).strip("<>")
        history = prompt.prefix.removesuffix(f"<{stage}>").removesuffix("\n\n")
        self.drawn.append((stage, index))
        return self.text(history, stage, index).removeprefix(f"<{stage}>")

    def score(self, history: str) -> float:
        return random.Random(f"{self.seed} worth {history}").uniform(0.001, 1)


def after(history: str, text: str) -> str:
    return f"{history}\n\n{text}" if history else text


def brute_force(script: Script, candidates: int, keep: int, retraces: int, threshold: float) -> tuple[str, int]:
    """Algorithm 1, sample by sample: the chain, and the number of samples."""
    summary = script.text("", "SUMMARY", 0)
    calls, pool, times = 1, [], Counter[str]()
    for count in range(retraces + 1):
        texts = {script.text(summary, "CAPTION", count * candidates + i) for i in range(candidates)}
        captions = sorted((after(summary, text) for text in texts), key=script.score, reverse=True)[:keep]
        calls += candidates
        for caption in captions:
            for _ in range(candidates // keep):
                pool.append(after(caption, script.text(caption, "REASONING", times[caption])))
                times[caption] += 1
                calls += 1
        scores = sorted(map(script.score, pool))
        if len(scores) > 1 and scores[-2] > threshold:
            break
    best = sorted(set(pool), key=script.score, reverse=True)[:keep]
    ends = [after(reasoning, script.text(reasoning, "CONCLUSION", 0)) for reasoning in best]
    return max(ends, key=script.score), calls + len(ends)


def search(script: Script, *arguments: float, asked: Question | None = None, **limits: int) -> Outcome:
    policy, scorer = ScriptedReplies(script.write), ScriptedScorer(script.score)
    limits = {"budget_calls": 10**6} | limits
    tree = question_tree(policy, scorer, asked=asked, format=Stages(), limits=settings(**limits))
    return tree.outcome(asyncio.run(swires(*arguments)(tree)))  # type: ignore[arg-type]


WIDTHS = st.sampled_from([(1, 1), (2, 1), (2, 2), (4, 1), (4, 2), (6, 3)])


@given(
    st.integers(0, 10**6),
    st.sampled_from([1, 2, 3, 1000]),
    WIDTHS,
    st.integers(0, 3),
    st.sampled_from([0, 0.6, 0.9, 1]),
)
def test_the_chain_is_that_of_brute_force_over_the_whole_pool(
    seed: int, width: int, widths: tuple[int, int], retraces: int, threshold: float
) -> None:
    script = Script(seed, width)
    outcome = search(script, *widths, retraces, threshold)
    chain, calls = brute_force(script, *widths, retraces, threshold)
    assert "\n\n".join(outcome.steps) == chain
    assert outcome.usage.policy_calls == calls
    assert (outcome.stopped, outcome.value) == ("final", script.score(chain))
    assert outcome.answer is not None


@pytest.mark.parametrize("retraces", range(4))
def test_a_retrace_draws_captions_that_were_not_drawn_before_and_the_summary_stays(retraces: int) -> None:
    script = Script(0)
    outcome = search(script, 4, 2, retraces, 1)  # no score is above 1
    assert outcome.usage.policy_calls == 1 + 4 + 4 + 8 * retraces + 2
    indices = {stage: [index for drawn, index in script.drawn if drawn == stage] for stage in STAGES}
    assert indices["SUMMARY"] == [0]
    assert indices["CAPTION"] == list(range(4 * (retraces + 1)))
    assert indices["REASONING"] == [0, 1] * 2 * (retraces + 1)
    assert indices["CONCLUSION"] == [0, 0]


@given(st.integers(0, 10**6))
def test_a_threshold_of_0_never_retraces(seed: int) -> None:
    script = Script(seed)
    assert search(script, 4, 2, 3, 0).usage.policy_calls == 1 + 4 + 4 + 2
    assert {index for stage, index in script.drawn if stage == "CAPTION"} == set(range(4))


def test_a_repeated_caption_gets_new_reasonings() -> None:
    script = Script(0, width=1)
    search(script, 4, 2, 2, 1)
    assert [index for stage, index in script.drawn if stage == "REASONING"] == list(range(6))


def notes(outcome: Outcome, stage: str) -> list[dict[str, str]]:
    found = [node.note for node in outcome.nodes if node.unit == stage]
    return [dict(re.findall(r"([a-z ]+?) (yes|no|\d+(?: of \d+)?)(?:, |$)", note)) for note in found]


def test_notes_say_round_and_rank_of_every_candidate() -> None:
    outcome = search(Script(0), 4, 2, 1, 1)
    captions, reasonings = notes(outcome, "CAPTION"), notes(outcome, "REASONING")
    assert Counter((note["round"], note["kept"]) for note in captions) == {
        (count, kept): 2 for count in "12" for kept in ("yes", "no")
    }
    assert sorted(note["pool rank"] for note in reasonings) == sorted(f"{rank} of 8" for rank in range(1, 9))
    assert [note["pool rank"] for note in reasonings if note["kept"] == "yes"] in (
        ["1 of 8", "2 of 8"],
        ["2 of 8", "1 of 8"],
    )
    ends = {node.note: node.score for node in outcome.nodes if node.unit == "CONCLUSION"}
    assert ends["rank 1 of 2, kept yes"] == outcome.value
    assert ends["rank 2 of 2, kept no"] is not None


@given(st.integers(0, 10**6), st.data())
def test_a_spent_budget_ends_the_search_with_what_it_has(seed: int, data: st.DataObject) -> None:
    whole = search(Script(seed))
    calls = data.draw(st.integers(1, whole.usage.policy_calls))
    outcome = search(Script(seed), budget_calls=calls)
    assert outcome.usage.policy_calls <= calls
    assert outcome.steps
    assert outcome.stopped == ("final" if len(outcome.steps) == len(STAGES) else "budget")
    if calls == whole.usage.policy_calls:
        assert outcome.steps == whole.steps


def failing(script: Script, stage: str) -> Outcome:
    """The search with a policy that never ends a stage."""

    def write(prompt: Prompt, index: int, seed: int) -> str:
        return "no end" if stage in str(prompt.begun[-1]) else script.write(prompt, index, seed)

    tree = question_tree(ScriptedReplies(write), ScriptedScorer(script.score), format=Stages())
    return tree.outcome(asyncio.run(swires()(tree)))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_without_a_valid_sample_ends_the_search_with_the_stages_before_it(stage: str) -> None:
    script = Script(0)
    outcome = failing(script, stage)
    assert len(outcome.steps) == STAGES.index(stage)
    assert (outcome.stopped, outcome.answer) == ("invalid", None)
    if len(outcome.steps) == 3:
        kept = [node for node in outcome.nodes if node.unit == "REASONING"]
        assert outcome.steps[-1] == max(kept, key=lambda node: node.score or 0).text


@pytest.mark.parametrize("given", range(5))
def test_given_stages_are_kept_and_a_given_caption_leaves_one_chain(given: int) -> None:
    history: tuple[str, ...] = ()
    for stage in STAGES[:given]:
        history = (*history, f"<{stage}> of the question </{stage}>")
    asked = Question("q", (Message("user", ("Why?",)),), history=history)
    script = Script(0)
    outcome = search(script, 4, 2, 1, 1, asked=asked)
    assert outcome.steps[:given] == history
    assert outcome.stopped == "final"
    samples = Counter(stage for stage, _ in script.drawn)
    full = {"SUMMARY": 1, "CAPTION": 8, "REASONING": 8, "CONCLUSION": 2}
    assert samples == {stage: full[stage] if given < 2 else 1 for stage in STAGES[given:]}


def test_without_probabilities_and_with_equal_scores_the_first_candidates_are_kept() -> None:
    def write(prompt: Prompt, index: int, seed: int) -> str:
        stage = str(prompt.begun[-1]).strip("<>")
        return f" number {index} </{stage}>"

    tree = question_tree(ScriptedReplies(write), ScriptedScorer(lambda history: 0.5), format=Stages())
    outcome = tree.outcome(asyncio.run(swires()(tree)))
    assert [re.findall(r"\d+", step) for step in outcome.steps] == [["0"]] * 4


def test_confidence_scores_stages() -> None:
    tree = question_tree(ScriptedReplies(Script(0).write), Confidence(), format=Stages())
    outcome = tree.outcome(asyncio.run(swires()(tree)))
    assert outcome.stopped == "final"
    assert all(0 < score < 1 for score in outcome.scores[1:] if score is not None)
    assert outcome.scores[0] is None  # the summary is not judged


def test_other_formats_are_refused() -> None:
    tree = question_tree(ScriptedReplies(Script(0).write), ScriptedScorer(Script(0).score), format=Continue())
    with pytest.raises(AtomThinkError, match="format=stages"):
        asyncio.run(swires()(tree))


def test_candidates_are_a_multiple_of_those_kept() -> None:
    with pytest.raises(AtomThinkError, match=r"candidates=4.*keep=3"):
        swires(candidates=4, keep=3)
