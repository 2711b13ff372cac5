"""One step of all rows of a running batch, as tensor code that a CUDA graph can capture.

Nothing here waits for the device, and no shape depends on a value. Whatever changes between two steps is in the
tensors of `DecodeState`, which are changed in place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch.nn import functional

from atomthink_plugin.inference.sampling import Draw, keep, noisy_scores, token_logprobs
from atomthink_plugin.inference.slots.transfers import Fetched, sent

ForwardPass = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Maps ids and positions, `[rows]`, to logits, `[rows, vocabulary]`."""

_ALL: Final = 2**31
"""Tokens kept in rows without top-k: more than any vocabulary has."""


@dataclass(frozen=True, slots=True)
class DecodeKind:
    """What differs between batches in the code that runs, not only in the numbers: each kind has graphs of its own.

    Attributes:
        sampled: Whether any row has a temperature above 0.
        filtered: Whether any such row has top-k or top-p.
        tops: How many of the likeliest tokens are reported, see `Draw`.
        watched: How many watched tokens are reported, see `Draw`.
    """

    sampled: bool = False
    filtered: bool = False
    tops: int = 0
    watched: int = 0

    @classmethod
    def of(cls, draws: Sequence[Draw]) -> DecodeKind:
        """Returns the kind of a batch of these draws."""
        return cls(
            sampled=any(draw.temperature > 0 for draw in draws),
            filtered=any(draw.temperature > 0 and (draw.top_k or draw.top_p < 1) for draw in draws),
            tops=max((draw.tops for draw in draws), default=0),
            watched=max((len(draw.watch) for draw in draws), default=0),
        )


@dataclass(frozen=True, slots=True)
class RowStart:
    """A row that joins a batch, before its first token is sampled.

    Attributes:
        draw: How it is sampled.
        position: Position of the token that is sampled next, as the model counts.
        marks: Index of its stop strings in the table of `DecodeState.marks`.
    """

    draw: Draw
    position: int
    marks: int


@dataclass
class DecodeState:
    """The rows of a running batch.

    Attributes:
        kind: What these rows need.
        integers: `[8, rows]`, int64: the properties from `ids` to `marked_by`. The first two are what the host reads
            after a step.
        floats: `[2, rows]`, float32: `heat` and `top_p`.
        watch: `[rows, watched]`, int64.
        logprobs: `[rows, 1 + tops + watched]`, float32: of the tokens in `ids`, see `token_logprobs`.
        marks: `[sets of stop strings, vocabulary]`, bool: tokens after which the host must look at a row, because it
            ends or may have reached a stop string.
    """

    kind: DecodeKind
    integers: torch.Tensor
    floats: torch.Tensor
    watch: torch.Tensor
    logprobs: torch.Tensor
    marks: torch.Tensor

    @classmethod
    def of(cls, rows: Sequence[RowStart], kind: DecodeKind, marks: torch.Tensor) -> DecodeState:
        """Returns the state of rows that start.

        Args:
            rows: The rows.
            kind: Of their batch.
            marks: See above.
        """
        device, draws, zeros = marks.device, [row.draw for row in rows], [0] * len(rows)
        integers = [
            zeros,
            zeros,
            [row.position for row in rows],
            zeros,
            [draw.max_tokens for draw in draws],
            [draw.seed for draw in draws],
            [draw.top_k or _ALL for draw in draws],
            [row.marks for row in rows],
        ]
        heat = [[draw.temperature for draw in draws], [draw.top_p for draw in draws]]
        # Unused columns hold any id: rows that watch fewer tokens have theirs in the last ones.
        watch = [[*[0] * (kind.watched - len(draw.watch)), *draw.watch] for draw in draws]
        return cls(
            kind,
            sent(torch.tensor(integers, dtype=torch.int64), device),
            sent(torch.tensor(heat, dtype=torch.float32), device),
            sent(torch.tensor(watch, dtype=torch.int64).view(len(rows), kind.watched), device),
            torch.zeros(len(rows), 1 + kind.tops + kind.watched, device=device),
            marks,
        )

    @property
    def ids(self) -> torch.Tensor:
        """Each row's last sampled token, which the next forward pass reads."""
        return self.integers[0]

    @property
    def flags(self) -> torch.Tensor:
        """1 where the host must look at the row: at an end token, its limit, or what may end a stop string."""
        return self.integers[1]

    @property
    def positions(self) -> torch.Tensor:
        """Position of the token in `ids`, as the model counts."""
        return self.integers[2]

    @property
    def drawn(self) -> torch.Tensor:
        """How many tokens of the row were sampled."""
        return self.integers[3]

    @property
    def limit(self) -> torch.Tensor:
        """Sampled tokens after which the row ends."""
        return self.integers[4]

    @property
    def seeds(self) -> torch.Tensor:
        """Seed of each row."""
        return self.integers[5]

    @property
    def top_k(self) -> torch.Tensor:
        """Tokens kept by top-k."""
        return self.integers[6]

    @property
    def marked_by(self) -> torch.Tensor:
        """Row of `marks` that holds for each row."""
        return self.integers[7]

    @property
    def heat(self) -> torch.Tensor:
        """Temperatures."""
        return self.floats[0]

    @property
    def top_p(self) -> torch.Tensor:
        """Probability mass kept by top-p."""
        return self.floats[1]

    def take(self, rows: torch.Tensor, kind: DecodeKind) -> DecodeState:
        """Returns the state of some rows.

        Args:
            rows: Their indices.
            kind: What they need, together with rows that will join.
        """
        return replace(
            self,
            kind=kind,
            integers=self.integers[:, rows],
            floats=self.floats[:, rows],
            watch=functional.pad(self.watch[rows], (kind.watched - self.kind.watched, 0)),
            logprobs=torch.zeros(len(rows), 1 + kind.tops + kind.watched, device=rows.device),
        )

    def joined(self, others: DecodeState) -> DecodeState:
        """Returns the state of these rows and then others of the same kind."""
        return replace(
            self,
            integers=torch.cat([self.integers, others.integers], dim=1),
            floats=torch.cat([self.floats, others.floats], dim=1),
            watch=torch.cat([self.watch, others.watch]),
            logprobs=torch.cat([self.logprobs, others.logprobs]),
            marks=others.marks,
        )


def decode_step(state: DecodeState, forward: ForwardPass) -> None:
    """Reads each row's last token and samples its next one, in place.

    Args:
        state: The rows.
        forward: The model.
    """
    logits = forward(state.ids, state.positions)
    state.positions.add_(1)
    sample(state, logits)


def sample(state: DecodeState, logits: torch.Tensor) -> None:
    """Samples each row's next token, in place: `ids`, `flags`, `drawn` and `logprobs` change.

    Args:
        state: The rows.
        logits: `[rows, vocabulary]`, in any precision.
    """
    logits, kind = logits.float(), state.kind
    scores = logits
    if kind.sampled:
        scores, cooled = noisy_scores(logits, state.heat, state.seeds, state.drawn)
        if kind.filtered:
            scores = scores.masked_fill_(~keep(cooled, state.top_k, state.top_p), -torch.inf)
    chosen = scores.argmax(dim=-1)
    state.ids.copy_(chosen)
    state.drawn.add_(1)
    state.flags.copy_(state.marks[state.marked_by, chosen] | (state.drawn >= state.limit))
    state.logprobs.copy_(token_logprobs(logits, chosen, kind.tops, state.watch if kind.watched else None))


def results_of(state: DecodeState, rows: torch.Tensor) -> Fetched:
    """Returns what rows sampled in their last step, on its way to the host.

    Args:
        state: The rows after the step.
        rows: Indices of those that are wanted.

    Returns:
        `[2, rows]`, their tokens and flags, and `[rows, 1 + tops + watched]`, log-probabilities.
    """
    return Fetched(state.integers[:2].index_select(1, rows), state.logprobs.index_select(0, rows))
