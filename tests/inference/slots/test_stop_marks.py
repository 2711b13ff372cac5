"""Rows end where they would if every token were decoded, although only marked tokens are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from atomthink_plugin.inference.sampling import Draw, RowEnd, decode
from atomthink_plugin.inference.slots.stop_marks import StopMarks
from atomthink_plugin.model_adapters.tiny import WEIGHTS
from tests.tiny_models import loaded, tokenizer

STOPS = ["\n\n", "\n", "Step", " 1", ". ", "。", "\n。", "é\n", "\u2028", "x"]


def sentencepiece() -> PreTrainedTokenizerFast:
    """Pieces with blanks before words, and bytes for all other characters, as SentencePiece writes them."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", "▁Step", "Step", "▁1", "1", ".", "▁x", "x", "é", "▁▁", "S", "t", "e", "p"]
    core = Tokenizer(
        models.BPE({piece: at for at, piece in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True)
    )
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@cache
def words(kind: str) -> Any:
    if kind == "sentencepiece":
        return sentencepiece()
    if kind == "bytes":
        return tokenizer(["<s>", "</s>"], bos_token="<s>", eos_token="</s>")
    return loaded(lambda folder: WEIGHTS / "policy").tokenizer


@cache
def interesting(kind: str) -> list[int]:
    """Tokens with characters of the stop strings, and pieces of them."""
    marks = StopMarks(words(kind), [1], len(words(kind)), torch.device("cpu"))
    return [token for stop in STOPS for token in marks.table[marks.index((stop,))].nonzero().flatten().tolist()]


def ended(draw: Draw, ids: Sequence[int], kind: str) -> int | None:
    """Where the text up to a token first has a stop string after its first visible character."""
    visible = None
    for count in range(1, len(ids) + 1):
        text = decode(words(kind), ids[:count])
        if visible is None and text.strip():
            visible = count - 1
        if visible is not None and any(stop in decode(words(kind), ids[visible:count]).lstrip() for stop in draw.stops):
            return count
    return None


@pytest.mark.parametrize("kind", ["embedded", "bytes", "sentencepiece"])
@settings(max_examples=300)
@given(data=st.data(), stops=st.lists(st.sampled_from(STOPS), min_size=1, max_size=2))
def test_rows_end_at_the_same_token_whichever_tokens_are_decoded(kind: str, data: Any, stops: list[str]) -> None:
    every = st.integers(0, len(words(kind)) - 1)
    written = st.sampled_from(STOPS).flatmap(lambda stop: st.just(words(kind).encode(stop, add_special_tokens=False)))
    parts = st.one_of(every.map(lambda one: [one]), st.sampled_from(interesting(kind)).map(lambda one: [one]), written)
    ids = [token for part in data.draw(st.lists(parts, max_size=30)) for token in part]
    draw = Draw(0, max_tokens=10**6, stops=tuple(stops))
    marks = StopMarks(words(kind), [], len(words(kind)), torch.device("cpu"))
    marked = marks.table[marks.index(draw.stops)]
    asked, spared = RowEnd(draw, words(kind)), RowEnd(draw, words(kind))
    by_every = next((at for at in range(1, len(ids) + 1) if asked.reached(ids[:at])), None)
    by_marks = next((at for at in range(1, len(ids) + 1) if marked[ids[at - 1]] and spared.reached(ids[:at])), None)
    assert by_marks == by_every == ended(draw, ids, kind)


@pytest.mark.parametrize("kind", ["embedded", "bytes", "sentencepiece"])
def test_few_tokens_are_marked_and_ends_always_are(kind: str) -> None:
    size = len(words(kind))
    marks = StopMarks(words(kind), [1, 5], size + 3, torch.device("cpu"))
    marked = marks.table[marks.index(("\n\n",))]
    assert marked[[1, 5, size, size + 2]].all()
    assert marked.sum() < 0.1 * size
    assert marks.table[marks.index(())].nonzero().flatten().tolist() == [1, 5]


def test_the_table_grows_and_keeps_its_rows() -> None:
    marks = StopMarks(words("embedded"), [1], len(words("embedded")), torch.device("cpu"))
    first = marks.table[marks.index(("\n",))].clone()
    for at in range(40):
        marks.index((f"Step {at}",))
    assert marks.index(("\n",)) == 0
    assert torch.equal(marks.table[0], first)
    assert len(marks.table) >= 41
