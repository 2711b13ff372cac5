"""Pieces of a text are tokenised one by one, each of them once."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest

from atomthink_plugin.inference.piece_tokenizer import PieceTokenizer
from tests.tiny_models import llava, loaded, qwen

STEPS = ["Step 1: Add 3 and 4.\n\n", "Step 2: The sum is 7.\n\n", "Step 1: Add 3 and 4.\n\n"]


@pytest.mark.parametrize("build", [llava, qwen])
def test_pieces_are_those_of_the_text_and_do_not_depend_on_later_ones(build: Callable[..., Any]) -> None:
    tokenizer = loaded(build).tokenizer
    pieces = PieceTokenizer(tokenizer).split(STEPS)
    assert tokenizer.decode([token for piece in pieces for token in piece]) == "".join(STEPS)
    for count in (1, 2):
        assert PieceTokenizer(tokenizer).split(STEPS[:count]) == pieces[:count]


def test_a_piece_that_comes_again_is_not_tokenised_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = loaded(llava).tokenizer
    pieces = PieceTokenizer(tokenizer)
    first = pieces.split(STEPS)
    assert pickle.loads(pickle.dumps(pieces)).split(STEPS) == first
    encode, texts = tokenizer.encode, []
    monkeypatch.setattr(tokenizer, "encode", lambda text, **given: texts.append(text) or encode(text, **given))
    assert pieces.split(STEPS) == first
    assert not texts
    assert pieces.split([*STEPS, "Step 3"])[:3] == first
    assert len(texts) == 1
