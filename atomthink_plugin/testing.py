"""A scripted policy and scorer: searches can be checked against brute force without any model.

tree = {"": {"Step 1: a": 0.6, "Step 1: b": 0.4}, "Step 1: a": {"Step 2: The answer is 1.": 1.0}, ...}
policy = ScriptedPolicy(tree)
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from atomthink_plugin.api import Path, Prompt, Proposal, Sampling, Score, Step, Usage
from atomthink_plugin.formats.steps import SEPARATOR

Tree = Mapping[str, Mapping[str, float]]
"""Probabilities of the next steps, by history: the texts of the steps so far, with a blank line between them."""


def history_of(path: Path) -> str:
    """Returns the key of `path` in a tree."""
    return SEPARATOR.join(step.text for step in path.steps)


def history_in(prompt: Prompt) -> str:
    """Returns the key of a prompt in a tree: the steps at the beginning of the reply."""
    return prompt.prefix.removesuffix(SEPARATOR)


@dataclass
class ScriptedPolicy:
    """Proposes steps from a tree, for prompts that hold the steps so far as the reply's beginning (`format=continue`).

    Attributes:
        tree: The steps and their probabilities, or a function that gives those of a prompt: for other formats and for
            what a search asks beside the chain.
        exhaustive: Whether sample `i` is the `i`-th step of the node (modulo their number) instead of a random draw.
        delay: Turns of the event loop that a call takes, by prompt and number of samples. It changes the order of
            arrival.
        fails: Called before each proposal. It may raise the error of a broken model.
        calls: All calls so far: the prompt's session, its history, the number of samples.
        identity: Name of the policy.
    """

    tree: Tree | Callable[[Prompt], Mapping[str, float]]
    exhaustive: bool = False
    delay: Callable[[Prompt, int], int] = lambda prompt, n: 0
    fails: Callable[[Prompt], None] = lambda prompt: None
    calls: list[tuple[str, str, int]] = field(default_factory=list)
    identity: str = "scripted"

    async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        """Draws `n` steps. At temperature 0 each is the likeliest one."""
        self.calls.append((prompt.session, history_in(prompt), n))
        for _ in range(self.delay(prompt, n)):
            await asyncio.sleep(0)
        self.fails(prompt)
        steps = tuple(self._draw(self._options(prompt), i, sampling) for i in range(n))
        return Proposal(steps, Usage(policy_calls=n, generated=sum(len(step.token_ids) for step in steps)))

    def _options(self, prompt: Prompt) -> Mapping[str, float]:
        return self.tree(prompt) if callable(self.tree) else self.tree[history_in(prompt)]

    def _draw(self, options: Mapping[str, float], i: int, sampling: Sampling) -> Step:
        texts = list(options)
        temperature = sampling.temperature_of(i)
        if self.exhaustive:
            text = texts[(sampling.first + i) % len(texts)]
        elif temperature == 0:
            text = max(texts, key=lambda t: options[t])
        else:
            weights = [options[t] ** (1 / temperature) for t in texts]
            text = random.Random(sampling.seed_of(i)).choices(texts, weights)[0]
        tokens = tuple(range(len(text.split())))
        cut = len(tokens) > sampling.max_tokens
        if cut:
            text, tokens = " ".join(text.split()[: sampling.max_tokens]), tokens[: sampling.max_tokens]
        tops = _tops(options, text.split(), sampling.tops) if sampling.tops else ()
        return Step(text, tokens, math.log(options.get(text, 1e-9)), "length" if cut else "stop", tops=tops)


def _tops(options: Mapping[str, float], words: Sequence[str], count: int) -> tuple[tuple[float, ...], ...]:
    """Returns `Step.tops` of a step that is drawn word by word, each after the words before it."""
    found = []
    for at, word in enumerate(words):
        following: dict[str, float] = {}
        for text, weight in options.items():
            others = text.split()
            if others[:at] == list(words[:at]) and len(others) > at:
                following[others[at]] = following.get(others[at], 0.0) + weight
        total = sum(following.values())
        likeliest = sorted((math.log(weight / total) for weight in following.values()), reverse=True)
        found.append((math.log(following[word] / total), *likeliest[:count]))
    return tuple(found)


@dataclass
class ScriptedScorer:
    """Scores steps from a table or a function of the history.

    Attributes:
        scores: Score of the last step by history, or a function that gives it.
        calls: Histories that were scored so far.
        identity: Name of the scorer.
    """

    scores: Mapping[str, float] | Callable[[str], float]
    calls: list[str] = field(default_factory=list)
    identity: str = "scripted"

    async def score(self, path: Path) -> Score:
        """Returns the score of the last step."""
        history = history_of(path)
        self.calls.append(history)
        value = self.scores(history) if callable(self.scores) else self.scores[history]
        return Score(value, Usage(score_calls=1))
