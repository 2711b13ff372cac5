"""Forward passes over what a model has not read yet.

Every prompt's longest known beginning comes from the prefix tree, only the rest goes through the model, and
what was read is kept for the prompts that begin alike: later steps, siblings, other beams, other questions
about the same image.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from packaging.version import Version
from torch.nn import functional
from transformers import DynamicCache
from transformers import __version__ as _RELEASE

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.inference.checkpoints import Checkpoint
from atomthink_plugin.inference.encoding import CROSS, Encoding, collate, group
from atomthink_plugin.inference.memory import out_of_memory
from atomthink_plugin.inference.model_calls import CannotForkError, ModelCalls, layer_kinds
from atomthink_plugin.inference.phases import forward_pass, phase
from atomthink_plugin.inference.prefix_cache.cache import RoomyLayer, roomy_cache, with_room
from atomthink_plugin.inference.prefix_cache.tree import PrefixTree, TensorStates, common

CACHE_GIB: Final = 4.0
"""GiB of keys and values that a policy or a PRM keeps between batches."""

_COMPARED: Final = 16
"""Tokens at the end of a prompt whose predictions a rehearsal compares."""

_FAR: Final = {True: 1e-3, False: 0.1}
"""Mean total variation that is no rounding, in float32 and below it."""

_CROSSES: Final = Version("5.18")
"""Before, Mllama indexed the mask of new tokens by old positions: an error on a CPU, a device-side assert on a GPU."""

_FORKABLE: Final = {"full_attention", "sliding_attention"}

ACCELERATOR: Final[tuple[type[Exception], ...]] = tuple(filter(None, [getattr(torch, "AcceleratorError", None)]))
"""Behind such an error (torch 2.8 on) the device takes nothing more from this process: no other way is left."""


@dataclass
class Batch:
    """Prefilled prompts, ready for decoding.

    Attributes:
        cache: Their keys and values, one row per prompt.
        mask: Which of the cached tokens are real, `[rows, tokens]`.
        logits: At each prompt's last tokens, `[rows, tokens, outputs]`, aligned at the end.
        positions: The position of each prompt's next token, `[rows]`.
        cross: Mllama's mask of the last token, `[rows, 1, images, tiles]`.
        read: Tokens of each prompt that went through the model.
        looked: Images of each prompt that were encoded.
    """

    cache: DynamicCache
    mask: torch.Tensor
    logits: torch.Tensor
    positions: torch.Tensor
    cross: torch.Tensor | None
    read: list[int]
    looked: list[int]

    def take(self, rows: Sequence[int]) -> None:
        """Keeps, repeats or reorders rows; the bookkeeping of `read` and `looked` stays as it is."""
        if list(rows) == list(range(len(self.mask))):
            return
        chosen = torch.tensor(rows, device=self.mask.device)
        self.cache.batch_select_indices(chosen)
        self.mask, self.logits, self.positions = self.mask[chosen], self.logits[chosen], self.positions[chosen]
        self.cross = None if self.cross is None else self.cross[chosen]


class PrefixReader:
    """Reads prompts with one model; keeps at most `limit` bytes of states between calls.

    Args:
        checkpoint: The model; its lock is the caller's to hold.
        limit: Bytes of keys and values.

    Raises:
        CannotForkError: The model's architecture does not allow it.
    """

    def __init__(self, checkpoint: Checkpoint, limit: int) -> None:
        self._checkpoint = checkpoint
        config = checkpoint.model.config.get_text_config()
        kinds = layer_kinds(config)
        if kinds - _FORKABLE:
            raise CannotForkError(f"it has layers of type {', '.join(sorted(kinds - _FORKABLE))}")
        self._calls = ModelCalls(checkpoint)
        self._crossing = frozenset(getattr(config, "cross_attention_layers", None) or ())
        if self._crossing and Version(_RELEASE) < _CROSSES:
            raise CannotForkError(f"transformers {_RELEASE} reads it at once only, {_CROSSES} in parts too")
        self._window: int | None = getattr(config, "sliding_window", None) if "sliding_attention" in kinds else None
        self._rehearsed: set[bool] = set()
        self._shapes: list[tuple[int, int]] = []  # heads and width of each layer's keys and values
        self._last = sys.maxsize if checkpoint.context is None else checkpoint.context - 1
        self.tree: PrefixTree[TensorStates] = PrefixTree(limit)

    def read(self, prompts: Sequence[Encoding], known: Sequence[int]) -> Batch:
        """Reads prompts of one structure.

        Args:
            prompts: What is read, each of more than one token.
            known: How many of its first tokens may come from the tree; the logits after them are returned.
        """
        with phase("cache"):  # all but the forward passes
            return self._read(prompts, known)

    def _read(self, prompts: Sequence[Encoding], known: Sequence[int]) -> Batch:
        if any(bound < prompt.settled for prompt, bound in zip(prompts, known, strict=True)):
            raise CannotForkError("its prompts end with an image, or it is not known where an image ends")
        self._rehearse(prompts[0])
        read, looked = [0] * len(prompts), [0] * len(prompts)
        first, longer = [], []
        for family in families(prompts):
            shared = shared_ids([prompts[at].ids[: known[at]] for at in family])
            payer = family[0]
            before = self.tree.known(prompts[payer].root, shared)
            if before < max(prompts[payer].settled, 1):
                first.append(prompts[payer].first(len(shared)))
                read[payer], looked[payer] = len(shared), prompts[payer].images
            elif len(family) > 1 and before < len(shared):
                longer.append(prompts[payer].first(len(shared)))
                read[payer] = len(shared) - before
        for indices in group(first):
            self._prefill([first[at] for at in indices])
        if longer:
            self._extend(longer, [prompt.length - 1 for prompt in longer])
        batch = self._extend(prompts, known)
        batch.read = [a + b for a, b in zip(read, batch.read, strict=True)]
        batch.looked = looked
        return batch

    def forget(self) -> None:
        """Drops everything that is kept for later prompts."""
        self.tree.clear()

    @contextmanager
    def bounded(self) -> Iterator[None]:
        """Enforces the tree's limit after a batch. If a batch runs out of memory, the whole tree is freed for it."""
        try:
            yield
        except Exception as error:
            if out_of_memory(error):
                self.tree.clear()
            raise
        finally:
            self.tree.shrink()

    def advance(self, batch: Batch, tokens: torch.Tensor) -> None:
        """Feeds one more token to every row, `[rows]`, and replaces the logits by those after it."""
        batch.mask = functional.pad(batch.mask, (0, 1), value=1)
        output = self._calls.forward(
            input_ids=tokens[:, None],
            attention_mask=batch.mask,
            position_ids=batch.positions[:, None],
            cache=batch.cache,
            **({} if batch.cross is None else {CROSS: batch.cross}),
            keep=1,
        )
        batch.logits = output.logits[:, -1:]
        batch.positions = (batch.positions + 1).clamp(max=self._last)  # rows that have ended may be beyond

    def keep_generated(self, batch: Batch, row: int, prompt: Encoding, ids: Sequence[int]) -> None:
        """Keeps the states of the last `len(ids)` tokens of a row, which were decoded after its prompt."""
        if ids:
            with phase("cache"):
                states = _stacked([half[row, :, -len(ids) :] for half in self._halves(batch.cache)])
                self.tree.insert(prompt.root, (*prompt.ids, *ids), TensorStates(states))

    def _prefill(self, prompts: Sequence[Encoding]) -> None:
        """Reads the beginnings of prompts, images included, and keeps them."""
        # Padding on the right leaves every real token's position and attention as they are alone.
        inputs = collate(prompts, self._checkpoint, "right")
        cache = roomy_cache()
        with phase("prefill"):
            forward_pass(len(prompts), sum(prompt.length for prompt in prompts))
            self._calls.forward(**inputs, cache=cache, keep=1)
        if self._halves(cache)[0].shape[2] != inputs["input_ids"].shape[1]:
            raise CannotForkError("it turns an image's one token into several")
        states = self._stack(cache, inputs["input_ids"].shape[1])
        shift = self._calls.shift(prompts)
        for row, prompt in enumerate(prompts):
            rows = {layer: _row(cache, layer, row) for layer in self._crossing if layer < len(cache.layers)}
            static = {layer: pair for layer, pair in rows.items() if pair is not None}
            self.tree.describe(prompt.root, shift[row], static)
            self.tree.insert(prompt.root, prompt.ids, TensorStates(states[:, row, :, : prompt.length]))

    def _extend(self, prompts: Sequence[Encoding], known: Sequence[int]) -> Batch:
        """Joins what the tree knows of each prompt and reads the rest."""
        rows = [prompt.ids for prompt in prompts]
        found = [self.tree.find(p.root, ids[:bound]) for p, ids, bound in zip(prompts, rows, known, strict=True)]
        pieces = [[states.tensor[:, :, :count] for states, count in row] for row in found]
        cached = [sum(piece.shape[2] for piece in row) for row in pieces]
        if self._window is not None:
            cached = self._close(prompts, cached)
        rest = [len(ids) - count for ids, count in zip(rows, cached, strict=True)]
        longest, new = max(cached), max(rest)
        device = self._checkpoint.device
        space = _space(pieces, cached, with_room(longest + new))
        cache = self._cache(space, longest, [prompt.root for prompt in prompts])
        shift = torch.tensor([self.tree.shift(prompt.root) for prompt in prompts], device=device)
        ids = torch.full((len(rows), new), self._checkpoint.pad_id)
        mask = torch.zeros(len(rows), longest + new, dtype=torch.long)
        positions = torch.zeros(len(rows), new, dtype=torch.long)
        for at, row in enumerate(rows):
            ids[at, new - rest[at] :] = torch.tensor(row[cached[at] :])
            mask[at, longest - cached[at] : longest] = 1
            mask[at, longest + new - rest[at] :] = 1
            positions[at, new - rest[at] :] = torch.arange(cached[at], len(row))
        mask, positions = mask.to(device), positions.to(device) + shift[:, None]
        cross = [p.tokens[CROSS][:, -1:] for p in prompts if CROSS in p.tokens]
        seen = torch.cat(cross).to(device) if cross else None
        wanted = max(len(row) - bound for row, bound in zip(rows, known, strict=True))
        with phase("prefill"):
            forward_pass(len(rows), sum(rest))
            output = self._calls.forward(
                input_ids=ids.to(device),
                attention_mask=mask,
                position_ids=positions,
                cache=cache,
                **({} if seen is None else {CROSS: seen.expand(-1, new, -1, -1)}),
                keep=wanted,
            )
        states = self._stack(cache, new)
        for at, row in enumerate(rows):
            self.tree.insert(prompts[at].root, row, TensorStates(states[:, at, :, -rest[at] :]))
        return Batch(cache, mask, output.logits[:, -wanted:], positions[:, -1] + 1, seen, rest, [])

    def _close(self, prompts: Sequence[Encoding], cached: Sequence[int]) -> list[int]:
        """Takes less from the tree, so that all rows read alike: a sliding window counts places, empty ones too.

        Raises:
            CannotForkError: A gap remains after an image, and the attention window is short enough for it to matter.
        """
        new = max(prompt.length - count for prompt, count in zip(prompts, cached, strict=True))
        taken = [min(c, max(p.length - new, p.settled, 0)) for p, c in zip(prompts, cached, strict=True)]
        gap = any(count and p.length - count < new for p, count in zip(prompts, taken, strict=True))
        if gap and self._window is not None and max(taken) + new > self._window:
            raise CannotForkError(f"its attention slides over {self._window} tokens, and prompts are longer")
        return taken

    def _rehearse(self, prompt: Encoding) -> None:
        """Reads the first prompt with images, and the first without, at once and in parts, and compares.

        Raises:
            CannotForkError: The parts say something else: earlier tokens saw later ones, say.
        """
        middle = max(prompt.settled, prompt.length // 2, 1)
        if (prompt.images > 0) in self._rehearsed or middle > prompt.length - 2:
            return
        count = min(prompt.length - middle, _COMPARED)
        inputs = collate([prompt], self._checkpoint, "right")
        with phase("prefill"):
            whole = self._calls.forward(cache=None, **inputs, keep=count).logits[0, -count:]
        parts = self._in_parts(prompt, middle)[-count:]
        far = (whole.float().softmax(-1) - parts.float().softmax(-1)).abs().sum(-1).mean() / 2
        allowed = _FAR[whole.dtype == torch.float32]
        if not far <= allowed:  # so that a distance that is no number counts as far
            raise CannotForkError(f"read in parts, a prompt is something else to it (distance {far:.2g})")
        self._rehearsed.add(prompt.images > 0)

    def _in_parts(self, prompt: Encoding, middle: int) -> torch.Tensor:
        """Returns logits from token `middle` on, `[tokens, outputs]`, read in three parts and kept nowhere."""
        kept, self.tree = self.tree, PrefixTree(sys.maxsize)
        try:
            self._prefill([prompt.first(middle)])
            batch = self._extend([prompt.first(prompt.length - 1)], [middle])
            before = batch.logits[0]
            self.advance(batch, torch.tensor(prompt.ids[-1:], device=before.device))
            return torch.cat([before, batch.logits[0]])
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            if out_of_memory(error):
                raise
            if isinstance(error, ACCELERATOR):
                raise AtomThinkError(
                    f"prompts cannot be read in parts on this device: set `cache_gib=0` ({error})"
                ) from error
            raise CannotForkError(f"it cannot read a prompt in parts: {error}") from error
        finally:
            self.tree = kept

    def _halves(self, cache: DynamicCache) -> list[torch.Tensor]:
        """Keys and values of the layers that grow with the text, `[rows, heads, tokens, width]` each."""
        layers: list[Any] = [layer for at, layer in enumerate(cache.layers) if at not in self._crossing]
        return [half for layer in layers for half in (layer.keys, layer.values)]

    def _stack(self, cache: DynamicCache, last: int) -> torch.Tensor:
        """Returns the states of the last tokens, `[2 * layers, rows, heads, tokens, width]`."""
        halves = self._halves(cache)
        shapes = [(half.shape[1], half.shape[3]) for half in halves]
        if len({half.shape[2] for half in halves}) != 1 or shapes != (self._shapes or shapes):
            raise CannotForkError("its layers keep states of different tokens")
        self._shapes = shapes
        return _stacked([half[:, :, -last:] for half in halves])

    def _cache(self, space: torch.Tensor, length: int, roots: Sequence[str]) -> DynamicCache:
        """Returns a model's cache from joined states `[2 * layers, rows, heads, tokens, width]`, `length` filled."""
        cache = roomy_cache()
        halves = iter([half[:, :heads, :, :width] for half, (heads, width) in zip(space, self._shapes, strict=True)])
        for at in range(len(self._shapes) // 2 + len(self._crossing)):
            layer = RoomyLayer()
            if at not in self._crossing:
                layer.fill(next(halves), next(halves), length)
            elif at in self.tree.static(roots[0]):
                rows = [self.tree.static(root)[at] for root in roots]
                layer.update(torch.stack([k for k, _ in rows]), torch.stack([v for _, v in rows]))
            cache.layers.append(layer)
        return cache


def families(prompts: Sequence[Encoding]) -> list[list[int]]:
    """Returns the indices of prompts with the same images and question together."""
    families: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    for at, prompt in enumerate(prompts):
        families.setdefault((prompt.root, prompt.ids[: prompt.question]), []).append(at)
    return list(families.values())


def _stacked(halves: Sequence[torch.Tensor]) -> torch.Tensor:
    """Returns states of layers as one tensor; those of fewer heads or less width than others get zeros at the end."""
    heads, width = (max(half.shape[at] for half in halves) for at in (-3, -1))
    if any((half.shape[-3], half.shape[-1]) != (heads, width) for half in halves):
        pads = [(0, width - half.shape[-1], 0, 0, 0, heads - half.shape[-3]) for half in halves]
        halves = [functional.pad(half, pad) for half, pad in zip(halves, pads, strict=True)]
    return torch.stack(list(halves))


def shared_ids(rows: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Returns what all rows begin with."""
    shared = rows[0]
    for row in rows[1:]:
        shared = shared[: common(shared, row)]
    return shared


def _space(pieces: Sequence[Sequence[torch.Tensor]], counts: Sequence[int], room: int) -> torch.Tensor:
    """Joins the first tokens of each row's pieces, `[2 * layers, heads, tokens, width]`; all rows end at one place."""
    halves, heads, _, width = pieces[0][0].shape
    longest = max(counts)
    space = pieces[0][0].new_empty(halves, len(pieces), heads, room, width)
    for row, (parts, count) in enumerate(zip(pieces, counts, strict=True)):
        at = longest - count
        space[:, row, :, :at] = 0  # masked, but nothing that is no number may stand there
        for part in parts:
            taken = part[:, :, : longest - at]
            space[:, row, :, at : at + taken.shape[2]] = taken
            at += taken.shape[2]
    return space


def _row(cache: DynamicCache, layer: int, row: int) -> tuple[torch.Tensor, torch.Tensor] | None:
    """A copy of one row of a layer that does not grow; None if the model saw no image."""
    kept: Any = cache.layers[layer]  # the layers of linear attention, which have no keys, were refused
    if kept.keys is None or not kept.keys.numel():
        return None
    return kept.keys[row].clone(), kept.values[row].clone()
