"""Random reasoning trees with known answers and scores, and brute force over them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from atomthink_plugin.api import Format, Message, Policy, Question, Sampling, Scorer
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.formats.steps import SEPARATOR
from atomthink_plugin.runtime.settings import Settings
from atomthink_plugin.runtime.tree import QuestionTree
from atomthink_plugin.testing import ScriptedPolicy, ScriptedScorer

REDUCE: dict[str, Callable[[Sequence[float]], float]] = {
    "last": lambda s: s[-1],
    "min": min,
    "mean": lambda s: math.fsum(s) / len(s),
    "prod": math.prod,
    # sorted, so that the same scores in another order give the same value to the last bit, as they do in the search
    "log_odds": lambda s: _mean_odds([min(max(p, 1e-6), 1 - 1e-6) for p in sorted(s)]),
}


def _mean_odds(scores: Sequence[float]) -> float:
    """The geometric mean of the odds, as a probability."""
    right = math.prod(scores) ** (1 / len(scores))
    wrong = math.prod(1 - score for score in scores) ** (1 / len(scores))
    return right / (right + wrong)


@dataclass(frozen=True)
class Grove:
    """A tree as scripts want it: probabilities and scores by history, answers by leaf."""

    tree: dict[str, dict[str, float]]
    scores: dict[str, float]
    answers: dict[str, str]

    def steps_of(self, leaf: str) -> list[str]:
        return leaf.split(SEPARATOR)

    def value(self, history: str, aggregate: str) -> float:
        steps = self.steps_of(history)
        return REDUCE[aggregate]([self.scores[SEPARATOR.join(steps[: k + 1])] for k in range(len(steps))])

    def logprob(self, history: str) -> float:
        """The mean per token, as `Path.logprob`; a word is a token."""
        steps = self.steps_of(history)
        total = sum(math.log(self.tree[SEPARATOR.join(steps[:k])][step]) for k, step in enumerate(steps))
        return total / len(history.split())

    @property
    def width(self) -> int:
        return max(len(options) for options in self.tree.values())


@st.composite
def groves(draw: st.DrawFn, depth: int = 3, branches: int = 3) -> Grove:
    tree: dict[str, dict[str, float]] = {}
    scores: dict[str, float] = {}
    answers: dict[str, str] = {}

    def grow(history: list[str], name: str) -> None:
        k = len(history) + 1
        options: dict[str, float] = {}
        for branch in range(draw(st.integers(1, branches))):
            leaf = k == depth or (k > 1 and draw(st.booleans()))
            answer = str(draw(st.integers(0, 3)))
            text = (
                f"Step {k}: By way of {name}{branch}. To sum up, the final answer is: {answer}."
                if leaf
                else f"Step {k}: Take the road {name}{branch}."
            )
            here = SEPARATOR.join([*history, text])
            options[text] = draw(st.floats(0.1, 1.0))
            scores[here] = draw(st.floats(0.0, 1.0))
            if leaf:
                answers[here] = answer
            else:
                grow([*history, text], f"{name}{branch}")
        total = sum(options.values())
        tree[SEPARATOR.join(history)] = {text: p / total for text, p in options.items()}

    grow([], "r")
    return Grove(tree, scores, answers)


def question(id: str = "q") -> Question:
    return Question(id, (Message("user", (f"What is {id}?",)),))


def settings(temperature: float = 1.0, seed: int = 0, rise: float = 0.0, **limits: int) -> Settings:
    values: dict[str, int | None] = {"budget_calls": None} | limits
    return Settings(sampling=Sampling(temperature=temperature, rise=rise, seed=seed), **values)  # type: ignore[arg-type]


def question_tree(
    policy: Policy,
    scorer: Scorer | None = None,
    *,
    asked: Question | None = None,
    format: Format | None = None,
    limits: Settings | None = None,
    **roles: Policy,
) -> QuestionTree:
    policies = {"policy": policy, **roles}
    return QuestionTree(asked or question(), policies, scorer, format or Continue(), limits or settings())


def tree_of(grove: Grove, exhaustive: bool = False, id: str = "q", **values: int) -> QuestionTree:
    policy = ScriptedPolicy(grove.tree, exhaustive=exhaustive)
    return question_tree(policy, ScriptedScorer(grove.scores), asked=question(id), limits=settings(**values))
