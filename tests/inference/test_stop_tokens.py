"""The tokens that hold a whole stop string."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from atomthink_plugin.inference.stop_tokens import StopTokens


def tokenizer(words: list[str]) -> PreTrainedTokenizerFast:
    """Bytes, and these words as further tokens, as byte-level tokenizers write them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    pieces = ["".join(piece for piece, _ in byte_level.pre_tokenize_str(word)) for word in words]
    core = Tokenizer(models.BPE({piece: at for at, piece in enumerate([*alphabet, *pieces])}, []))
    core.pre_tokenizer, core.decoder = byte_level, decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core)


WORDS = ["\n\n", ".\n\n", " so\n\n\n", "\n \n", "Step", "é\n\n", "\n\n "]


def test_tokens_with_a_stop_string_are_found_with_their_text() -> None:
    found = StopTokens(tokenizer(WORDS))(("\n\n", "\nStep 2"))
    assert sorted(found.values()) == sorted(word for word in WORDS if "\n\n" in word)
    assert all(token >= 256 for token in found)


def test_each_set_of_stop_strings_has_its_own_tokens() -> None:
    stop_tokens = StopTokens(tokenizer(WORDS))
    assert set(stop_tokens(("Step",)).values()) == {"Step"}
    assert set(stop_tokens(("tep", " so")).values()) == {"Step", " so\n\n\n"}
    assert stop_tokens(()) == {}


def test_a_token_that_is_part_of_a_character_is_no_stop_token() -> None:
    half = bytes("é\n\n", "utf-8")[1:]
    whole = tokenizer([])
    piece = "".join(str(whole.convert_ids_to_tokens(whole.encode(chr(10))[0])) if b == 10 else "" for b in half)
    assert piece == "ĊĊ"
    vocabulary = {token: at for at, token in enumerate([*sorted(pre_tokenizers.ByteLevel.alphabet()), "©ĊĊ"])}
    core = Tokenizer(models.BPE(vocabulary, []))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    assert StopTokens(PreTrainedTokenizerFast(tokenizer_object=core))(("\n\n",)) == {}
