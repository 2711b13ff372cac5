"""The ids of a profile's tokens in the checkpoint's tokenizer, checked against the published ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from transformers import PreTrainedTokenizerBase

from atomthink_plugin.api import AtomThinkError


def checked_ids(
    tokenizer: PreTrainedTokenizerBase,
    texts: Iterable[str],
    published: Mapping[str, int],
    profile: str,
    tag: str = "",
) -> dict[str, int]:
    """Returns the id of each text.

    A text may be a token as the vocabulary spells it, or text that is tokenised to one token. The two can differ in
    SentencePiece vocabularies; the published id decides then. If there is none, the vocabulary decides for the tokens
    whose logits are read, and the tokenised text for the tag, which is written in a text.

    Args:
        tokenizer: The checkpoint's.
        texts: Texts of single tokens whose logits are read.
        published: Published ids by text, further texts included.
        profile: Name of the profile, for messages.
        tag: Text of the tag; empty for a layout without.

    Raises:
        AtomThinkError: A text is not one token, or has another id than the published one. Names all of them.
    """
    ids: dict[str, int] = {}
    faults: list[str] = []
    for text in dict.fromkeys((*texts, *filter(None, [tag]), *published)):
        found = possible_ids(tokenizer, text)
        wanted = published.get(text)
        if not found:
            pieces = tokenizer.encode(text, add_special_tokens=False)
            faults.append(f"{text!r} is {len(pieces)} tokens {pieces}, not one" + _expected(wanted))
        elif wanted is not None and wanted not in found:
            faults.append(f"{text!r} has the id {' or '.join(map(str, found))}" + _expected(wanted))
        else:
            ids[text] = found[-1 if text == tag else 0] if wanted is None else wanted
    if faults:
        raise AtomThinkError(
            f"the tokenizer does not fit prm_profile={profile}: {'; '.join(faults)}. Name the profile of this "
            "checkpoint, or write one with its ids"
        )
    return ids


def possible_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """Returns the ids that `text` may stand for: as an entry of the vocabulary, and as tokenised text."""
    known = tokenizer.get_vocab().get(text)
    pieces: list[int] = tokenizer.encode(text, add_special_tokens=False)
    found = [] if known is None else [int(known)]
    return tuple(dict.fromkeys([*found, *(pieces if len(pieces) == 1 else [])]))


def _expected(wanted: int | None) -> str:
    return "" if wanted is None else f", expected {wanted}"
