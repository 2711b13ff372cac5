"""The ids of a profile's tokens, where the vocabulary and the tokenised text differ."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.scorers.token_ids import checked_ids

# A SentencePiece vocabulary spells "+" as one entry, and tokenises it with the blank before it as another.
TOKENIZER: Any = SimpleNamespace(
    get_vocab=lambda: {"+": 1, "-": 2},
    encode=lambda text, add_special_tokens: {"+": [11], "-": [12], "#": [13], "ab": [14, 15]}[text],
)


def test_the_vocabulary_decides_for_tokens_that_are_read_and_the_text_for_the_tag() -> None:
    assert checked_ids(TOKENIZER, ["+", "-"], {}, "x") == {"+": 1, "-": 2}
    assert checked_ids(TOKENIZER, ["-"], {}, "x", tag="+") == {"-": 2, "+": 11}
    assert checked_ids(TOKENIZER, ["+"], {"+": 11, "#": 13}, "x") == {"+": 11, "#": 13}


@pytest.mark.parametrize(
    ("texts", "published"), [(["ab"], {}), (["+"], {"ab": 14}), (["+"], {"#": 14}), ([], {"-": 1})]
)
def test_a_text_of_several_tokens_or_with_another_id_is_refused(texts: list[str], published: dict[str, int]) -> None:
    with pytest.raises(AtomThinkError):
        checked_ids(TOKENIZER, texts, published, "x")
