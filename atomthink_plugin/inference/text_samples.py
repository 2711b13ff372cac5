"""Texts that come without token ids, from a server or from a model that gives only its reply, as steps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from atomthink_plugin.api import FinishReason, Step

_NO_ID: Final = -1
"""Stands for a token in `Step.token_ids`: it is known how many there were, and limits are counted by them."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One sampled text.

    Attributes:
        text: As it came, cut or not.
        finish: The reason it was given: `stop`, `length`, `content_filter`, ...
        tokens: How many were sampled.
        pieces: Their bytes, as far as they are known, and log-probabilities; empty where none are given.
        tops: As in `Step`, for all of `pieces`; empty where they were not asked for.
    """

    text: str
    finish: str
    tokens: int
    pieces: tuple[tuple[int, float], ...] = ()
    tops: tuple[tuple[float, ...], ...] = ()

    @property
    def blank(self) -> bool:
        """Whether it ended before anything visible."""
        return self.finish == "stop" and not self.text.strip()


def to_step(sample: Sample, stops: Sequence[str]) -> Step:
    """Cuts a sample at the first stop string behind its first visible character, which the server may not know."""
    text, finish = sample.text, _finish(sample, stops)
    lead = len(text) - len(text.lstrip())
    found = [text.index(stop, lead) for stop in stops if stop in text[lead:]]
    tokens = sample.tokens
    if found:
        text, finish = text[: min(found)], "stop"
        tokens = _covering(sample, len(text.encode()))
    logprob = math.fsum(logprob for _, logprob in sample.pieces[:tokens]) if sample.pieces else None
    return Step(text.strip(), (_NO_ID,) * tokens, logprob, finish, tops=sample.tops[:tokens])


def _finish(sample: Sample, stops: Sequence[str]) -> FinishReason:
    """Servers do not tell a stop string from the end of the reply."""
    if sample.finish == "length":
        return "length"
    return "stop" if stops else "eos"


def _covering(sample: Sample, size: int) -> int:
    """Returns how many of a sample's tokens it takes to write its first `size` bytes."""
    if not sample.pieces:
        return math.ceil(sample.tokens * size / len(sample.text.encode()))
    written = itertools.accumulate((length for length, _ in sample.pieces[:-1]), initial=0)
    return max(1, sum(before < size for before in written))
