"""What scripted models report of a tree is what a model that draws word by word would report."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import pytest
from hypothesis import given

from atomthink_plugin.testing import ScriptedPolicy
from tests.trees import Grove, groves, question_tree, settings


@given(groves())
def test_the_likeliest_words_are_those_of_the_tree(grove: Grove) -> None:
    limits = settings()
    limits = replace(limits, sampling=replace(limits.sampling, tops=2))
    tree = question_tree(ScriptedPolicy(grove.tree, exhaustive=True), limits=limits)
    (children,) = asyncio.run(tree.expand([tree.root], len(grove.tree[""])))
    for child in children:
        assert child.step is not None
        words = child.step.text.split()
        assert len(child.step.tops) == len(words)
        assert sum(own for own, *_ in child.step.tops) == pytest.approx(child.step.logprob)
        for at, (own, *likeliest) in enumerate(child.step.tops):
            same = {text: p for text, p in grove.tree[""].items() if text.split()[:at] == words[:at]}
            shares = dict.fromkeys({text.split()[at] for text in same}, 0.0)
            for text, p in same.items():
                shares[text.split()[at]] += p / sum(same.values())
            assert own == pytest.approx(math.log(shares[words[at]]))
            expected = sorted(map(math.log, shares.values()), reverse=True)[:2]
            assert likeliest == pytest.approx(expected)
