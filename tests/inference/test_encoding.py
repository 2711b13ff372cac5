"""Encodings of prompts, and the control tokens in users' texts, which become ordinary characters."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.inference.encoding import CROSS, Encoding, neutralise


def pattern(*tokens: str) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(tokens, key=len, reverse=True))))


@pytest.mark.parametrize(
    ("text", "tokens", "expected"),
    [
        ("a <s> b", ["<s>"], "a < s> b"),
        ("<im<s>age>", ["<s>", "<image>"], "<im< s>age>"),
        ("1 + 1", ["+"], "1 + 1"),
        ("1 + 1 <+>", ["+", "<+>"], "1 + 1 < +>"),
        ("a <x>", [" <x>"], "a < x>"),
        ("a +", [" +"], "a +"),
        ("+ 1", ["+ "], "+ 1"),
    ],
)
def test_a_token_is_written_separately_if_possible(text: str, tokens: list[str], expected: str) -> None:
    assert neutralise(text, pattern(*tokens)) == expected


@given(
    st.text("ab< \n", max_size=20),
    st.lists(st.text("ab< \n", min_size=1, max_size=4).filter(lambda t: not t.isspace()), min_size=1, max_size=4),
)
def test_it_ends_and_takes_nothing_but_adds_spaces(text: str, tokens: list[str]) -> None:
    apart = neutralise(text, pattern(*tokens))
    assert [sign for sign in apart if sign != " "] == [sign for sign in text if sign != " "]
    assert neutralise(apart, pattern(*tokens)) == apart
    if all(len(token.strip()) > 1 for token in tokens):
        assert not pattern(*tokens).search(apart)


def encoding() -> Encoding:
    """Two text tokens and an image token, which text tokens may see."""
    seen = torch.tensor([0, 0, 1]).reshape(1, 3, 1, 1)
    beside = {"attention_mask": torch.ones(1, 3), "mm_token_type_ids": torch.tensor([[0, 0, 1]]), CROSS: seen}
    return Encoding((7, 8, 9), beside, {"pixel_values": torch.zeros(1, 3, 4, 4)}, images=1)


def test_text_after_the_image_is_masked_as_text() -> None:
    longer = encoding().extend([4, 5])
    tokens = longer.tokens
    assert longer.length == 5
    assert tokens["input_ids"].tolist() == [[7, 8, 9, 4, 5]]
    assert tokens["attention_mask"].tolist() == [[1, 1, 1, 1, 1]]
    assert tokens["mm_token_type_ids"].tolist() == [[0, 0, 1, 0, 0]]
    assert tokens[CROSS].flatten().tolist() == [0, 0, 1, 1, 1]
    assert longer.structure == encoding().structure


@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_first_tokens_keep_their_inputs(count: int) -> None:
    tokens = encoding().extend([4, 5]).tokens
    for name, value in encoding().extend([4, 5]).first(count).tokens.items():
        assert torch.equal(value, tokens[name][:, :count])


def test_text_after_the_first_tokens_has_nothing_of_the_image_that_was_cut_off() -> None:
    tokens = encoding().first(2).extend([5]).tokens
    assert tokens["input_ids"].tolist() == [[7, 8, 5]]
    assert tokens["mm_token_type_ids"].tolist() == [[0, 0, 0]]
