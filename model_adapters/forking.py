"""Decoding from forked caches: a prompt is read once, its samples, later steps and other beams go on from there."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from atomthink_plugin.checkpoints import Checkpoint, end_ids
from atomthink_plugin.model_adapters.decoding import Reply, Row
from atomthink_plugin.model_adapters.sampling import RowEnd, Sampler, complete
from atomthink_plugin.prefixes.reader import Batch, PrefixReader, ids_of


class ForkingDecoder:
    """Reads only what is new of every row's prompt; rows that have ended leave the batch.

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

    def generate(self, rows: Sequence[Row]) -> list[Reply]:
        """Generates all rows in one batch.

        Raises:
            CannotForkError: The model's states turn out to be such that they cannot be forked.
        """
        places: dict[tuple[str, tuple[int, ...]], int] = {}
        owners = [places.setdefault((row.prompt.root, ids_of(row.prompt)), len(places)) for row in rows]
        # The first sample of a prompt pays for reading it.
        payers = [owners.index(place) for place in range(len(places))]
        prompts = [rows[payer].prompt for payer in payers]
        with self._reader.bounded():
            batch = self._reader.read(prompts, [prompt.length - 1 for prompt in prompts])
            batch.take(owners)
            sampled = self._decode(batch, rows)
        replies = []
        for at, (row, owner, (ids, logprobs)) in enumerate(zip(rows, owners, sampled, strict=True)):
            pays = payers[owner] == at
            read = batch.read[owner] if pays else 0
            replies.append(
                Reply(
                    complete(ids, logprobs, row.draw, self._checkpoint.tokenizer, self._ends),
                    prefilled=read,
                    cached=row.prompt.length - read,
                    images=batch.looked[owner] if pays else 0,
                )
            )
        return replies

    def _decode(self, batch: Batch, rows: Sequence[Row]) -> list[tuple[list[int], list[float]]]:
        """Samples every row to its end; returns ids and their log-probabilities."""
        sampler = Sampler([row.draw for row in rows], self._checkpoint.device)
        ends = [RowEnd(row.draw, self._checkpoint.tokenizer) for row in rows]
        sampled: list[tuple[list[int], list[float]]] = [([], []) for _ in rows]
        alive = list(range(len(rows)))
        position = 0
        while True:
            logits = batch.logits[:, -1].float()
            chosen = sampler.noisy(logits, position).argmax(dim=-1)
            logprobs = torch.log_softmax(logits, dim=-1).gather(1, chosen[:, None])[:, 0]
            going = []
            for at, (row, token, logprob) in enumerate(zip(alive, chosen.tolist(), logprobs.tolist(), strict=True)):
                ids = sampled[row][0]
                ids.append(token)
                sampled[row][1].append(logprob)
                if token in self._ends or ends[row].reached(ids):
                    self._reader.keep_generated(batch, at, rows[row].prompt, ids[:-1])
                else:
                    going.append(at)
            if not going:
                return sampled
            if len(going) < len(alive):
                batch.take(going)
                kept = torch.tensor(going, device=chosen.device)
                sampler.take(kept)
                chosen = chosen[kept]
                alive = [alive[at] for at in going]
            self._reader.advance(batch, chosen)
            position += 1
