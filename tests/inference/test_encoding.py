"""Control tokens in users' texts become ordinary characters, whatever the tokens look like."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.inference.encoding import neutralise


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
