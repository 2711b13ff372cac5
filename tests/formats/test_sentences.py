"""The format `sentences`: the reply of the format `stages`, one sentence after the other."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.api import Message, Outcome, Path, Prompt, Question, Search, Step
from atomthink_plugin.formats.sentences import Sentences
from atomthink_plugin.formats.stages import STAGES
from atomthink_plugin.searches.quick import quick
from atomthink_plugin.searches.stage_beam import stage_beam
from tests.searches.scripted_replies import Replies, ScriptedReplies
from tests.searches.test_stage_beam import RESPONSES, text_of
from tests.trees import question_tree, settings

REPLY = (
    "<SUMMARY> I will read 3.5 and 7. Then I add them. </SUMMARY>\n\n"
    "<CAPTION> A chart.\n\nIts bars are red (3.5) and blue. The title is missing</CAPTION>\n\n"
    "<REASONING> Red is 3.5.\nIs blue 7? Yes! 3.5 + 7 = 10.5. </REASONING>\n\n"
    "<CONCLUSION> The sum is 10.5. So the answer is 10.5 </CONCLUSION>"
)
UNITS = [
    "<SUMMARY> I will read 3.5 and 7.",
    " Then I add them.",
    " </SUMMARY>",
    "\n\n<CAPTION> A chart.",
    "\n\nIts bars are red (3.5) and blue.",
    " The title is missing</CAPTION>",
    "\n\n<REASONING> Red is 3.5.",
    "\nIs blue 7? Yes! 3.5 + 7 = 10.5.",
    " </REASONING>",
    "\n\n<CONCLUSION> The sum is 10.5. So the answer is 10.5 </CONCLUSION>",
]


def wrote(reply: str, more: str = "") -> Replies:
    """A model that writes one reply, and then something else."""

    def write(prompt: Prompt, index: int, seed: int) -> str:
        assert reply.startswith(prompt.prefix)
        return reply.removeprefix(prompt.prefix) + more

    return write


class Verbatim(ScriptedReplies):
    """A policy whose samples keep the blanks around them, as those of real policies do."""

    def _step(self, prompt: Prompt, i: int, sampling: object) -> Step:
        text = self.reply(prompt, i, 0)
        assert isinstance(text, str)
        lead = len(text) - len(text.lstrip())
        ends = [text.index(stop, lead) for stop in prompt.stops if stop in text[lead:]] if self.stops else []
        return Step(text[: min(ends, default=None)], (0,), -1.0, "stop" if ends else "eos")


def think(policy: ScriptedReplies, search: Search, asked: Question | None = None, **limits: int) -> Outcome:
    tree = question_tree(policy, format=Sentences(), limits=settings(**limits), asked=asked)
    return tree.outcome(asyncio.run(search(tree)))


@pytest.mark.parametrize("stops", [True, False])
@pytest.mark.parametrize("more", ["", "\n\nuser: And blue? It is 7."])
def test_sentences_together_are_the_reply_of_one_call(stops: bool, more: str) -> None:
    outcome = think(Verbatim(wrote(REPLY, more), stops=stops), quick())
    assert list(outcome.steps) == UNITS
    assert outcome.text == REPLY
    assert (outcome.answer, outcome.stopped) == ("10.5", "final")


def test_each_prompt_begins_with_the_pieces_of_the_one_before() -> None:
    policy = Verbatim(wrote(REPLY))
    think(policy, quick())
    assert policy.asked[0].prefix == "<SUMMARY>"
    for earlier, later in pairwise(policy.asked):
        assert later.begun[: len(earlier.begun)] == earlier.begun


WORDS = st.lists(st.sampled_from(["one", "3.5", "x.", "y.\n", "why?", "(a.b)"]), min_size=1, max_size=6).map(" ".join)


@given(st.lists(WORDS, min_size=4, max_size=4))
def test_any_reply_is_divided_without_loss(inner: list[str]) -> None:
    reply = "\n\n".join(f"<{stage}> {text} </{stage}>" for stage, text in zip(STAGES, inner, strict=True))
    outcome = think(Verbatim(wrote(reply)), quick(), max_steps=100)
    assert outcome.text == reply
    for unit in outcome.steps[:-1]:
        assert ". " not in unit.strip()
        assert ".\n" not in unit.strip()
        assert unit.endswith((".", ">"))


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "empty"),
        (" . ", "empty"),
        (" </SUMMARY>", None),
        (" I add <CAPTION> them. ", "holds further tags"),
        (" I add. ", None),
        (" I add", None),
    ],
)
def test_what_is_a_sentence(reply: str, reason: str | None) -> None:
    path = Path(Question("q", (Message("user", ("Why?",)),))).extend(Step("<SUMMARY> I read."))
    unit = Sentences().unit(path)
    assert unit is not None
    assert unit.check(unit.opening + unit.cut(reply), ["<SUMMARY> I read."]) == reason


def test_a_judge_compares_sentences_by_the_text_so_far() -> None:
    """Brute force: the best of three sentences each time, with an exact judge."""

    def worth(prefix: str, index: int) -> int:
        return random.Random(f"{prefix} {index}").randrange(10**6)

    def write(prompt: Prompt, index: int, seed: int) -> str:
        stage = prompt.prefix.rpartition("<")[2].partition(">")[0]
        if prompt.prefix.endswith("."):
            return f" </{stage}>"
        period = "" if stage == "CONCLUSION" else "."
        return f" It is {worth(prompt.prefix, index)}{period} </{stage}>"

    def better(prompt: Prompt, index: int, seed: int) -> str:
        found = RESPONSES.search(text_of(prompt))
        assert found is not None
        numbers = [int("".join(filter(str.isdigit, text))) for text in found.groups()]
        return f"I choose response {1 + (numbers[1] > numbers[0])}."

    expected, prefix = "", ""
    for stage in STAGES:
        prefix = f"{expected}\n\n<{stage}>".lstrip()
        best = max(worth(prefix, index) for index in range(3))
        expected = f"{prefix} It is {best}{'' if stage == 'CONCLUSION' else '.'} </{stage}>"
    judge = ScriptedReplies(better)
    tree = question_tree(Verbatim(write), format=Sentences(), judge=judge)
    outcome = tree.outcome(asyncio.run(stage_beam(3)(tree)))
    assert outcome.text == expected
    assert len(judge.asked) == 4 * 2  # three sentences and the conclusion; the end tags are alike
    hint = text_of(judge.asked[-1]).partition("Hint about the question: ")[2]
    assert "</REASONING>" in hint
