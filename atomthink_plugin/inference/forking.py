"""Decoding from forked KV caches: a prompt is prefilled once for its samples, later steps and other beams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch

from atomthink_plugin.inference.checkpoints import Checkpoint, end_ids
from atomthink_plugin.inference.decoding import GenerationOutput, GenerationRequest
from atomthink_plugin.inference.phases import forward_pass, phase
from atomthink_plugin.inference.prefix_cache.reader import Batch, PrefixReader
from atomthink_plugin.inference.sampling import RowEnd, Sampler, complete

_IDLE: Final = 0.25
"""Share of rows that have ended at which they leave the batch: leaving copies the others' keys and values."""


class ForkingDecoder:
    """Prefills only the new tokens of every row's prompt. Finished rows leave the batch.

    Args:
        checkpoint: The model.
        limit: Bytes of keys and values kept between batches.

    Raises:
        CannotForkError: The model's architecture does not allow it.
    """

    def __init__(self, checkpoint: Checkpoint, limit: int) -> None:
        self._checkpoint = checkpoint
        self._ends = end_ids(checkpoint)
        self._reader = PrefixReader(checkpoint, limit)

    def generate(self, rows: Sequence[GenerationRequest]) -> list[GenerationOutput]:
        """Generates all rows in one batch.

        Raises:
            CannotForkError: The model's states turn out to be such that they cannot be forked.
        """
        places: dict[tuple[str, tuple[int, ...]], int] = {}
        owners = [places.setdefault((row.prompt.root, row.prompt.ids), len(places)) for row in rows]
        # The first sample of a prompt pays for reading it.
        payers = [owners.index(place) for place in range(len(places))]
        prompts = [rows[payer].prompt for payer in payers]
        with self._reader.bounded():
            batch = self._reader.read(prompts, [prompt.length - 1 for prompt in prompts])
            with phase("cache"):
                batch.take(owners)
            sampled = self._decode(batch, rows)
        replies, tokenizer = [], self._checkpoint.tokenizer
        with phase("ends"):
            for at, (row, owner, (ids, logprobs)) in enumerate(zip(rows, owners, sampled, strict=True)):
                pays = payers[owner] == at
                read = batch.read[owner] if pays else 0
                replies.append(
                    GenerationOutput(
                        complete(ids, logprobs, row.draw, tokenizer, self._ends, row.prompt.said),
                        prefilled=read,
                        cached=row.prompt.length - read,
                        images=batch.looked[owner] if pays else 0,
                    )
                )
        return replies

    def forget(self) -> None:
        """Drops all kept keys and values."""
        self._reader.forget()

    def _decode(self, batch: Batch, rows: Sequence[GenerationRequest]) -> list[tuple[list[int], list[list[float]]]]:
        """Samples every row to its end; returns ids and, for each, what `token_logprobs` returns."""
        sampler = Sampler([row.draw for row in rows], self._checkpoint.device)
        ends = [RowEnd(row.draw, self._checkpoint.tokenizer) for row in rows]
        sampled: list[list[int]] = [[] for _ in rows]
        trace: list[tuple[list[int], torch.Tensor]] = []  # fetched at the end: one wait for the device per token
        places = list(range(len(rows)))  # the row in each place of the batch, those that have ended included
        alive = set(places)
        while True:
            with phase("sample"):
                logits = batch.logits[:, -1].float()
                chosen = sampler.noisy(logits, len(trace)).argmax(dim=-1)
                trace.append((places, sampler.logprobs(logits, chosen)))
            with phase("device"):
                tokens = chosen.tolist()
            with phase("ends"):
                for place, (row, token) in enumerate(zip(places, tokens, strict=True)):
                    if row not in alive:
                        continue
                    ids = sampled[row]
                    ids.append(token)
                    if token in self._ends or ends[row].reached(ids):
                        self._reader.keep_generated(batch, place, rows[row].prompt, ids[:-1])
                        alive.remove(row)
            if not alive:
                return list(zip(sampled, _by_row(trace, len(rows)), strict=True))
            if len(alive) <= (1 - _IDLE) * len(places):
                with phase("cache"):
                    going = [place for place, row in enumerate(places) if row in alive]
                    batch.take(going)
                    kept = torch.tensor(going, device=chosen.device)
                    sampler.take(kept)
                    chosen, places = chosen[kept], [places[place] for place in going]
            with phase("decode"):
                forward_pass(len(places), len(alive))
                self._reader.advance(batch, chosen)


def _by_row(trace: Sequence[tuple[Sequence[int], torch.Tensor]], count: int) -> list[list[list[float]]]:
    """Returns the log-probabilities of each row, finished rows included, in one transfer from the device."""
    values: list[list[list[float]]] = [[] for _ in range(count)]
    rows = [row for places, _ in trace for row in places]
    with phase("device"):
        fetched = torch.cat([logprobs for _, logprobs in trace]).tolist()
    for row, value in zip(rows, fetched, strict=True):
        values[row].append(value)
    return values
