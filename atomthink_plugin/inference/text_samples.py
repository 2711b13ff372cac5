"""Sampled texts without token ids, from a server or a model that returns only text, as steps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from atomthink_plugin.api import FinishReason, Step

_NO_ID: Final = -1
"""Placeholder for a token in `Step.token_ids`: the number of tokens is known, their ids are not."""


@dataclass(frozen=True, slots=True)
class TextSample:
    """One sampled text.

    Attributes:
        text: The text as it was returned.
        finish: The server's finish reason: `stop`, `length`, `content_filter`, ...
        tokens: Number of sampled tokens.
        pieces: The size in bytes and the log-probability of each token; empty where the server gives none.
        tops: As in `Step`, for all of `pieces`; empty where they were not asked for.
        watched: As in `Step`.
    """

    text: str
    finish: str
    tokens: int
    pieces: tuple[tuple[int, float], ...] = ()
    tops: tuple[tuple[float, ...], ...] = ()
    watched: tuple[float, ...] = ()

    @property
    def blank(self) -> bool:
        """Whether it ended before anything visible."""
        return self.finish == "stop" and not self.text.strip()


def to_step(sample: TextSample, stops: Sequence[str]) -> Step:
    """Returns the sample as a step, cut at the first stop string after its first visible character."""
    text, finish = sample.text, _finish(sample, stops)
    lead = len(text) - len(text.lstrip())
    found = [text.index(stop, lead) for stop in stops if stop in text[lead:]]
    tokens = sample.tokens
    if found:
        text, finish = text[: min(found)], "stop"
        tokens = _covering(sample, len(text.encode()))
    logprob = math.fsum(logprob for _, logprob in sample.pieces[:tokens]) if sample.pieces else None
    return Step(text, (_NO_ID,) * tokens, logprob, finish, tops=sample.tops[:tokens], watched=sample.watched)


def watched_in(listed: Mapping[str, float], watch: Sequence[str]) -> tuple[float, ...]:
    """Returns `Step.watched`.

    Args:
        listed: The likeliest tokens at one position, with their log-probabilities.
        watch: The texts to look up. A text that is not among the tokens is looked up without blanks around both.
    """
    bare: dict[str, float] = {}
    for token, logprob in listed.items():
        name = token.replace("\u2581", " ").strip()  # SentencePiece writes a blank as this mark
        bare[name] = max(logprob, bare.get(name, -math.inf))
    found = [listed.get(text, bare.get(text.strip())) for text in watch]
    if all(logprob is None for logprob in found):
        return ()
    least = min(listed.values())
    return tuple(least if logprob is None else logprob for logprob in found)


def _finish(sample: TextSample, stops: Sequence[str]) -> FinishReason:
    """Returns why the step ended; servers report a stop string and the end of the reply alike."""
    if sample.finish == "length":
        return "length"
    return "stop" if stops else "eos"


def _covering(sample: TextSample, size: int) -> int:
    """Returns how many of a sample's tokens it takes to write its first `size` bytes."""
    if not sample.pieces:
        return math.ceil(sample.tokens * size / len(sample.text.encode()))
    written = itertools.accumulate((length for length, _ in sample.pieces[:-1]), initial=0)
    return max(1, sum(before < size for before in written))
