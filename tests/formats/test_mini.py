"""The format `mini`: pieces of a few tokens that, joined, are one reply, and an answer that may be spread over them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from atomthink_plugin.api import Outcome, Path, Question, Step
from atomthink_plugin.formats.continuation import CONTINUE_INSTRUCTION
from atomthink_plugin.formats.few_shot import FewShot
from atomthink_plugin.formats.mini import MINI_INSTRUCTION, Mini
from atomthink_plugin.formats.parts import answer_at
from atomthink_plugin.model_adapters.transformers_policy import TransformersPolicy
from atomthink_plugin.runtime.tree import QuestionTree
from atomthink_plugin.searches.quick import quick
from atomthink_plugin.tasks.demo.engine_questions import engine_questions
from atomthink_plugin.tasks.demo.questions import held_out
from tests.model_adapters.test_transformers_policy import QUESTIONS, embedded
from tests.tiny_models import gemma3, llava, loaded
from tests.trees import question, question_tree, settings

_NONE: Any = None

TAGGED = "<Thought> Red is 4, blue is 7, and 4 + 7 = 11. </Thought>\n<Output> 11 </Output>"
UNTAGGED = "Step 1: Read red = 4.\n\nStep 2: To sum up, the final answer is: 12."


def pieces(text: str, size: int, end: str = "eos") -> Path:
    """A reply in units of `size` characters; the last one ends as `end` says."""
    path = Path(question())
    for start in range(0, len(text), size):
        path = path.extend(Step(text[start : start + size], (start,), finish="length"))
    assert path.step is not None
    assert path.parent is not None
    return path.parent.extend(replace(path.step, finish=end))


@pytest.mark.parametrize("size", [1, 2, 5, 7, 64, 500])
@pytest.mark.parametrize(("text", "answer"), [(TAGGED, "11"), (UNTAGGED, "12")])
def test_an_answer_is_read_from_all_pieces_and_only_where_the_reply_ends(text: str, answer: str, size: int) -> None:
    path = pieces(text, size)
    assert answer_at(Mini(), path) == answer
    assert [answer_at(Mini(), earlier) for earlier in path.lineage[:-1]] == [None] * (path.depth - 1)
    assert Mini().answer(text) == answer


@pytest.mark.parametrize(
    ("text", "end", "answer"),
    [
        ("So the final answer is: 1", "length", None),  # 12, perhaps
        ("So the final answer is: 1", "eos", "1"),
        ("<Output> The final answer is: 3 cm. </Output> I hope", "length", "3 cm"),
        ("<Output> 3 cm </Output> <Output> 4 cm </Output>", "eos", "3 cm"),
        ("<Output> 3 cm", "length", None),
        ("<Output> 3 cm", "eos", "3 cm"),
        ("The final answer is: 5. </Thought>\n<Output> </Output>", "eos", "5"),
        ("I do not know.", "eos", None),
    ],
)
def test_a_reply_may_lack_tags(text: str, end: str, answer: str | None) -> None:
    assert answer_at(Mini(), pieces(text, 6, end)) == answer


def test_examples_before_the_question_change_no_answer() -> None:
    shown = FewShot(Mini(), "digest", 1, "tfidf", _NONE)
    chain = pieces(UNTAGGED, 7)
    assert [answer_at(shown, path) for path in chain.lineage] == [answer_at(Mini(), path) for path in chain.lineage]


def test_the_reply_so_far_is_given_by_its_steps_and_a_history_by_its_paragraphs() -> None:
    path = pieces(TAGGED, 9, "length")
    assert Mini().render(path).begun == path.steps
    assert Mini().render(path).messages[-1].parts[-1] == f"\n{MINI_INSTRUCTION}"
    assert Mini(instruction="").render(path).messages == question().messages
    history = replace(question(), history=("Red is 4.", "Blue is 7."))
    tree = question_tree(_NONE, asked=history, format=Mini())
    assert Mini().render(tree.root).prefix == "Red is 4.\n\nBlue is 7.\n\n"
    unit = Mini(mini_tokens=32).unit(tree.root)
    assert unit is not None
    assert (unit.tokens, unit.partial, unit.joint) == (32, True, "")


@pytest.mark.parametrize(
    ("text", "history", "valid"),
    [
        ("", ["So the final answer is: ", "12."], True),  # nothing but the end of a reply
        ("", ["So the sum"], False),
        ("", [], False),
        ("\n\n", ["So"], True),
        ("tain", ["The moun", "tain"], True),
        ("7 7 7 7 7 7 7 7 7 7 7 7", ["7 7 7 7 7 7 7 7 7 7 7 7"], True),
        (".", ["x"], True),
    ],
)
def test_only_empty_pieces_that_end_nothing_are_rejected(text: str, history: list[str], valid: bool) -> None:
    unit = Mini().unit(Path(question()))
    assert unit is not None
    assert (unit.check(text, history) is None) == valid


def chain_of(policy: TransformersPolicy, asked: Question, form: Mini, tokens: int) -> tuple[Path, Outcome]:
    limits = settings(max_steps=100, max_new_tokens=tokens)
    limits = replace(limits, sampling=replace(limits.sampling, temperature=0.0))
    tree = QuestionTree(asked, {"policy": policy}, None, form, limits)
    choice = asyncio.run(quick()(tree))
    return choice.path, tree.outcome(choice)


@pytest.mark.parametrize("build", [llava, gemma3])
def test_mini_steps_of_a_greedy_chain_are_one_greedy_reply(build: Any) -> None:
    policy = TransformersPolicy(loaded(build))
    for asked in QUESTIONS[:2]:
        whole, *small = (chain_of(policy, asked, Mini(mini_tokens=size), 70) for size in (70, 5, 9))
        assert {_ids(path) for path, _ in small} == {_ids(whole[0])}
        assert {outcome.text for _, outcome in small} == {whole[1].text}


def test_the_embedded_model_ends_mini_steps_where_it_ends_its_reply() -> None:
    policy = TransformersPolicy(loaded(embedded))
    found = []
    for asked in engine_questions(held_out(3)):
        chains = [chain_of(policy, asked, Mini(CONTINUE_INSTRUCTION, size), 256) for size in (256, 64, 32, 3)]
        assert len({_ids(path) for path, _ in chains}) == 1
        assert len({(outcome.text, outcome.answer) for _, outcome in chains}) == 1
        found += [outcome.answer for _, outcome in chains]
        depths = [path.depth for path, _ in chains]
        assert depths == [-(-len(_ids(chains[0][0])) // size) for size in (256, 64, 32, 3)]
    assert None not in found


def _ids(path: Path) -> tuple[int, ...]:
    return tuple(token for step in path.steps for token in step.token_ids)
