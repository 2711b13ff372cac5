"""Ways of choosing examples, against brute force."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.api import AtomThinkError, Example, Examples, Policy, Prompt, Proposal, Sampling
from atomthink_plugin.examples.fixed import FixedExamples
from atomthink_plugin.examples.policy_embedding import EmbeddedExamples
from atomthink_plugin.examples.similarity import nearest
from atomthink_plugin.examples.tfidf import TfidfExamples
from atomthink_plugin.testing import ScriptedPolicy
from tests.examples.example_files import asked, solved

WORDS = ["red", "blue", "add", "4", "7"]
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(" ".join)


class Embedder:
    """Counts words: the vector of a text has the number of each."""

    identity = "embedder"

    def __init__(self) -> None:
        self.embedded: list[str] = []

    async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        raise AssertionError("it is only asked for vectors")

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        self.embedded += texts
        await asyncio.sleep(0)
        return [vector(text) for text in texts]


def vector(text: str) -> list[float]:
    counts = Counter(text.split())
    return [float(counts[word]) for word in WORDS]


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.dist(a, [0.0] * len(a)) / math.dist(b, [0.0] * len(b))


def choose(way: Examples, text: str, k: int, policy: Policy | None = None) -> list[Example]:
    return list(asyncio.run(way.nearest(asked(text), k, policy or ScriptedPolicy({}))))


def brute_force(examples: Sequence[Example], similarities: Sequence[float], text: str, k: int) -> list[Example]:
    """Takes the most similar example k times, the first of several, and puts each before those that were taken."""
    left = [i for i, one in enumerate(examples) if one.question.replace(" ", "") not in text.replace(" ", "")]
    chosen: list[Example] = []
    for _ in range(min(k, len(left))):
        best = max(left, key=lambda i: (round(similarities[i], 6), -i))
        left.remove(best)
        chosen.insert(0, examples[best])
    return chosen


@given(st.lists(texts, min_size=1, max_size=7), texts, st.integers(1, 8))
def test_the_policys_nearest_are_those_of_brute_force(questions: list[str], text: str, k: int) -> None:
    examples = [solved(one) for one in questions]
    similarities = [cosine(vector(one), vector(text)) for one in questions]
    found = choose(EmbeddedExamples(examples), text, k, Embedder())
    assert found == brute_force(examples, similarities, text, k)


@given(st.lists(texts, min_size=1, max_size=7), texts, st.integers(1, 8))
def test_the_nearest_by_tfidf_are_those_of_brute_force(questions: list[str], text: str, k: int) -> None:
    """The weights from their definition: 1 + log tf, times log((1 + n) / (1 + df)) + 1."""
    examples = [solved(one) for one in questions]
    n = len(questions)
    df = {word: sum(word in one.split() for one in questions) for word in WORDS}

    def weights(one: str) -> list[float]:
        counts = Counter(word for word in one.split() if df[word])
        return [
            (1 + math.log(counts[word])) * (math.log((1 + n) / (1 + df[word])) + 1) if counts[word] else 0.0
            for word in WORDS
        ]

    similarities = [cosine(weights(one), weights(text)) if any(weights(text)) else 0.0 for one in questions]
    assert choose(TfidfExamples(examples), text, k) == brute_force(examples, similarities, text, k)


@pytest.mark.parametrize("way", [FixedExamples, TfidfExamples, EmbeddedExamples])
@pytest.mark.parametrize("text", ["add red 4", "ADD  Red\n4", "Hint: answer with a number.\nadd red 4"])
def test_the_question_itself_is_never_an_example(way: type, text: str) -> None:
    examples = [solved("Add red 4", "4"), solved("add blue 7", "7")]
    assert choose(way(examples), text, 5, Embedder()) == [examples[1]]


@pytest.mark.parametrize("way", [TfidfExamples, EmbeddedExamples])
def test_of_equally_similar_examples_the_earlier_ones_are_nearer(way: type) -> None:
    examples = [solved("add 4", str(i)) for i in range(4)]
    assert [one.answer for one in choose(way(examples), "add 7", 3, Embedder())] == ["2", "1", "0"]


def test_fixed_examples_are_the_first_in_the_order_of_the_file() -> None:
    examples = [solved(text) for text in ("red", "blue", "add", "4")]
    assert choose(FixedExamples(examples), "7", 3) == examples[:3]
    assert choose(FixedExamples(examples), "red", 2) == examples[1:3]


def test_examples_are_embedded_once_for_all_questions_and_loops() -> None:
    policy, examples = Embedder(), [solved("red"), solved("blue")]
    way = EmbeddedExamples(examples)

    async def ask() -> None:
        await asyncio.gather(*(way.nearest(asked(text), 1, policy) for text in ("add", "4", "7")))

    asyncio.run(ask())
    asyncio.run(ask())
    assert Counter(policy.embedded) == {"red": 1, "blue": 1, "add": 2, "4": 2, "7": 2}


def test_a_cancelled_question_does_not_end_the_embedding_for_the_others() -> None:
    policy, way = Embedder(), EmbeddedExamples([solved("red")])

    async def ask() -> Sequence[Example]:
        first = asyncio.create_task(way.nearest(asked("add"), 1, policy))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        first.cancel()
        return await way.nearest(asked("4"), 1, policy)

    assert [one.question for one in asyncio.run(ask())] == ["red"]


def test_a_policy_without_embeddings_is_refused_with_the_argument_to_use_instead() -> None:
    with pytest.raises(AtomThinkError, match="format_nearest=tfidf"):
        EmbeddedExamples([solved("red")]).check_policy(ScriptedPolicy({}))
    EmbeddedExamples([solved("red")]).check_policy(Embedder())


def test_a_text_of_no_known_word_has_no_similarity_and_no_warning() -> None:
    examples = [solved("red"), solved("blue")]
    with np.errstate(all="raise"):
        assert choose(TfidfExamples(examples), "what", 2) == [examples[1], examples[0]]
        assert choose(EmbeddedExamples(examples), "what", 2, Embedder()) == [examples[1], examples[0]]


def test_rounding_errors_of_a_similarity_do_not_decide() -> None:
    assert nearest([0.5, 0.5 + 1e-9, 0.7, 0.5 - 1e-9], range(4), 3) == [1, 0, 2]
