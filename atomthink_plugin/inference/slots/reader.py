"""Reads prompts into a pool of keys and values: what was read before is shared or copied, the rest is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Final

import torch

from atomthink_plugin.inference.checkpoints import Checkpoint
from atomthink_plugin.inference.encoding import Encoding, collate, group
from atomthink_plugin.inference.gpu_memory import pool_tokens
from atomthink_plugin.inference.memory import out_of_memory
from atomthink_plugin.inference.model_calls import CannotForkError, ModelCalls, layer_kinds
from atomthink_plugin.inference.phases import forward_pass, phase
from atomthink_plugin.inference.prefix_cache.cache import roomy_cache
from atomthink_plugin.inference.prefix_cache.reader import families, shared_ids
from atomthink_plugin.inference.prefix_cache.tree import PrefixTree
from atomthink_plugin.inference.slots.allocator import UNIT, Extent, PoolFullError
from atomthink_plugin.inference.slots.attention import AttentionPlan, PassThroughCache, slot_attention
from atomthink_plugin.inference.slots.graph_capture import GraphMaker
from atomthink_plugin.inference.slots.pass_graph import PassGraphs
from atomthink_plugin.inference.slots.plans import Plans
from atomthink_plugin.inference.slots.pool import KvPool, PoolShape, TokenRun
from atomthink_plugin.inference.slots.question_runs import QuestionRuns
from atomthink_plugin.inference.slots.row import Chunk, Row
from atomthink_plugin.inference.slots.transfers import sent

_SMALL: Final = 2**20
"""Bytes up to which a row gets a power of two of places: the extents of more rows then lie side by side, so that
attention takes fewer calls."""

_TOKENS: Final = 8192
"""New tokens of one forward pass at most, unless one prompt has more."""


@dataclass
class PromptsRead:
    """Prompts that were read.

    Attributes:
        logits: For each prompt those after its wanted tokens, `[tokens, outputs]`.
        read: Tokens of each prompt that went through the model.
        looked: Images of each prompt that were encoded.
    """

    logits: list[torch.Tensor] = field(default_factory=list)
    read: list[int] = field(default_factory=list)
    looked: list[int] = field(default_factory=list)


class SlotReader:
    """Reads prompts with one model.

    Attributes:
        tree: Finds what was read by its tokens.
        size: See below.
        maker: Makes CUDA graphs of forward passes.

    Args:
        checkpoint: The model; its lock is the caller's to hold.
        limit: Bytes of keys and values that are kept for later prompts.
        size: Tokens of the pool; None for a pool that grows.

    Raises:
        CannotForkError: The model's architecture does not allow it.
    """

    def __init__(
        self, checkpoint: Checkpoint, limit: int, size: int | None = None, maker: GraphMaker | None = None
    ) -> None:
        self.tree: PrefixTree[TokenRun] = PrefixTree(limit)
        self._checkpoint, self.size = checkpoint, size
        self._calls = ModelCalls(checkpoint)
        self._text: Any = checkpoint.model.config.get_text_config()
        self._pending: list[tuple[int, int, int]] = []
        self._kept = False  # whether a pending copy is of what was kept
        self._questions = QuestionRuns()
        self._held = Counter[Extent]()  # by rows: to drop them from the tree frees nothing
        self._pool: KvPool | None = None
        self._plans: Plans | None = None
        self.maker = maker or GraphMaker(checkpoint.model)
        self._graphs = PassGraphs(self.forward, self.maker)
        self._serves = False
        if kinds := layer_kinds(self._text) - {"full_attention"}:
            raise CannotForkError(f"it has layers of type {', '.join(sorted(kinds))}")
        if getattr(self._text, "cross_attention_layers", None):
            raise CannotForkError("it has layers that see the images alone")

    def serve(self) -> None:
        """Ends the trial of a model: on a GPU the pool has a planned size from now on, and what was read is forgotten.

        All models of the run are loaded by then.
        """
        if not self._serves and self._checkpoint.device.type == "cuda":
            self.forget()
            self._pool = self._plans = None
            self._serves = True

    @property
    def pool(self) -> KvPool:
        """The pool, which the first prefill makes."""
        assert self._pool is not None
        return self._pool

    def read(self, prompts: Sequence[Encoding], known: Sequence[int]) -> PromptsRead:
        """Reads prompts of one structure to their ends, and keeps what was read.

        Args:
            prompts: Each of more than one token.
            known: How many of its first tokens may have been read before; the logits after them are returned.
        """
        with phase("cache"):  # all but the forward passes
            reading = self.prepare(prompts, known)
            for start, stop in passes([prompt.length - count for prompt, count in zip(prompts, known, strict=True)]):
                self._read(prompts[start:stop], known[start:stop], reading, start)
        return reading

    def knows(self, prompt: Encoding) -> bool:
        """Whether `start` finds a prompt's question without `prepare`."""
        ids = prompt.ids[:-1]
        return self.tree.known(prompt.root, ids) >= max(min(prompt.question, len(ids)), prompt.settled, 1)

    def prepare(self, prompts: Sequence[Encoding], known: Sequence[int]) -> PromptsRead:
        """Reads what prompts of one structure begin with in common, images included, so that `start` finds it.

        Returns:
            What was read, without logits.

        Raises:
            CannotForkError: A prompt ends with an image.
        """
        if any(bound < prompt.settled for prompt, bound in zip(prompts, known, strict=True)):
            raise CannotForkError("its prompts end with an image")
        done = PromptsRead([], [0] * len(prompts), [0] * len(prompts))
        first: list[Encoding] = []
        longer: list[Encoding] = []
        for family in families(prompts):
            shared = shared_ids([prompts[at].ids[: known[at]] for at in family])
            payer = family[0]
            before = self.tree.known(prompts[payer].root, shared)
            if before < max(prompts[payer].settled, 1):
                first.append(prompts[payer].first(len(shared)))
                done.read[payer], done.looked[payer] = len(shared), prompts[payer].images
            elif len(family) > 1 and before < len(shared):
                longer.append(prompts[payer].first(len(shared)))
                done.read[payer] = len(shared) - before
        for indices in group(first):
            for start, stop in passes([first[at].length for at in indices]):
                self._prefill([first[at] for at in indices[start:stop]])
        if longer:
            zeros = [0] * len(longer)
            self._read(longer, [prompt.length - 1 for prompt in longer], PromptsRead([], zeros, zeros.copy()), 0)
        return done

    def start(self, prompt: Encoding, bound: int, room: int) -> tuple[Row, tuple[int, ...]]:
        """Returns a row for a prompt that was prepared, and the tokens that it has to read.

        Call `flush` before they are read.

        Args:
            prompt: The prompt.
            bound: How many of its first tokens may have been read before.
            room: Tokens that may follow the prompt.

        Raises:
            PoolFullError: The pool has no place for it now.
        """
        if self._kept:
            self.flush()  # what was kept just now may be what this prompt begins with
        ids = prompt.ids
        pieces = self.tree.find(prompt.root, ids[:bound])
        if sum(length for _, length in pieces) < max(prompt.settled, 1):
            raise PoolFullError("what was prepared had to make room for other rows")
        shift = self.tree.shift(prompt.root)
        held = [states.part(0, length) for states, length in pieces]
        self._held.update(run.extent for run in held)
        try:
            shared = self._shared(prompt, ids[:bound], held)
            count = len(shared)
            try:
                own = self._place_for(len(ids) - count + room)
            except PoolFullError:
                shared.release()
                raise
            row = self._row(shared, own, 0, shift)
            begin = 0
            for run in held:
                skipped = max(count - begin, 0)
                if skipped < len(run):
                    self._pending.append((run.start + skipped, own.start + row.length, len(run) - skipped))
                    row.length += len(run) - skipped
                begin += len(run)
        finally:
            for run in held:
                self._let_go(run)
        return row, ids[begin:]

    def fork(self, row: Row, room: int) -> Row:
        """Returns a row with places for the tokens of another one, and for further ones. `copy` fills it.

        Args:
            row: The other one.
            room: Tokens that may follow.

        Raises:
            PoolFullError: The pool has no place for it now.
        """
        own = self._place_for(row.length + room)  # before the shared tokens have one more user
        return self._row(row.shared.part(0, len(row.shared)), own, row.length, row.shift)

    def copy(self, row: Row, twin: Row) -> None:
        """Copies a row's own tokens to a row that was forked from it. Call `flush` before either reads more."""
        twin.length = row.length
        self._pending.append((row.own.start, twin.own.start, row.length))

    def keep(self, row: Row, root: str, ids: Sequence[int]) -> None:
        """Keeps a row's tokens for later prompts, as far as there is room.

        Args:
            row: The row.
            root: Names the images.
            ids: All its tokens, from the first of the prompt on.
        """
        missing = len(ids) - self.tree.known(root, ids)
        if not 0 < missing <= row.length:  # nothing is new, or what comes before was dropped
            return
        try:
            extent = self.pool.allocate(missing)
        except PoolFullError:
            return
        if self.tree.known(root, ids) != len(ids) - missing:  # what comes before made room for it
            self.pool.release(extent)
            return
        self._pending.append((row.own.start + row.length - missing, extent.start, missing))
        self._kept = True
        run = TokenRun(self.pool, extent, 0, missing)
        self.tree.insert(root, ids, run)
        run.release()

    def release(self, row: Row) -> None:
        """Gives up a row's places, once what is pending was copied."""
        self.flush()
        self._let_go(row.shared)
        self.pool.release(row.own)

    def forget(self) -> None:
        """Drops everything that is kept for later prompts."""
        self.flush()
        self._questions.clear()
        self.tree.clear()

    def flush(self) -> None:
        """Copies what has to be copied, all at once."""
        if self._pending:
            self.pool.copy(self._pending)
        self._pending, self._kept = [], False

    @property
    def plans(self) -> Plans:
        """What plans forward passes, which the first prefill makes."""
        assert self._plans is not None
        return self._plans

    def plan(self, chunks: Sequence[Chunk]) -> AttentionPlan:
        """Returns where the chunks' queries find keys and values."""
        return self.plans.of(chunks)

    def run(
        self, chunks: Sequence[Chunk], ids: torch.Tensor, positions: torch.Tensor, wanted: torch.Tensor
    ) -> torch.Tensor:
        """Reads chunks in one forward pass, as a CUDA graph where that is possible.

        Args:
            chunks: What each row reads.
            ids: `[tokens]`, by the order of the chunks.
            positions: `[tokens]`, as the model counts.
            wanted: Indices of the tokens whose logits are returned.

        Returns:
            `[wanted, outputs]`.
        """
        graph = self._graphs.find(len(ids), self.plans, self.pool)
        if graph is not None:
            try:
                return graph.run(chunks, ids, positions, wanted)
            except Exception as error:
                self.maker.give_up(error)
        return self.forward(self.plan(chunks), ids, positions, wanted)

    def forward(
        self, plan: AttentionPlan, ids: torch.Tensor, positions: torch.Tensor, wanted: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Returns logits after tokens of a pass, `[wanted, outputs]`.

        Args:
            plan: Of the pass.
            ids: `[tokens]`, by the order of the plan's chunks.
            positions: `[tokens]`, as the model counts.
            wanted: Indices of the tokens whose logits are wanted; by default all.
        """
        with slot_attention(self._text, self.pool, plan):
            output = self._calls.forward(
                input_ids=ids[None],
                position_ids=positions[None],
                cache=PassThroughCache(),
                keep=0 if wanted is None else wanted,
            )
        logits: torch.Tensor = output.logits[0]
        return logits if wanted is None or self._calls.keeps else logits[wanted]

    @contextmanager
    def bounded(self) -> Iterator[None]:
        """Enforces the tree's limit after a batch. If a batch runs out of memory, the whole tree is freed for it."""
        try:
            yield
        except Exception as error:
            self.abandon()
            if out_of_memory(error):
                self.forget()
            raise
        finally:
            self.tree.shrink()

    def _row(self, shared: TokenRun, own: Extent, length: int, shift: int) -> Row:
        self._held[shared.extent] += 1
        return Row(shared, own, length, shift)

    def _let_go(self, run: TokenRun) -> None:
        self._held[run.extent] -= 1
        if not self._held[run.extent]:
            del self._held[run.extent]
        run.release()

    def _place_for(self, tokens: int) -> Extent:
        """Returns an extent for a row."""
        if tokens * self.pool.shape.token_bytes <= _SMALL:
            tokens = max(64, 1 << (tokens - 1).bit_length())
        return self.pool.allocate(tokens, last=True)

    def _shared(self, prompt: Encoding, ids: tuple[int, ...], pieces: Sequence[TokenRun]) -> TokenRun:
        """Returns the run that a prompt's row shares with others: the question, if it is known to its end."""
        count = _contiguous(pieces)
        question = prompt.question or count
        if count + UNIT <= question <= sum(map(len, pieces)):
            run = self._questions.joined(self.pool, prompt.root, ids[:question], pieces, self._pending)
            if run is not None:
                return run.part(0, question)
        return pieces[0].part(0, min(count, question))

    def abandon(self) -> None:
        """Gives up what is pending, after an error."""
        if self._pending:  # the questions and the tree may hold places that were not written
            self._questions.clear()
            self.tree.clear()
        self._pending, self._kept = [], False

    def _read(self, prompts: Sequence[Encoding], known: Sequence[int], reading: PromptsRead, first: int) -> None:
        """Reads the rest of prompts in one pass and adds it to `reading`, from prompt `first` on."""
        chunks: list[Chunk] = []
        try:
            for prompt, bound in zip(prompts, known, strict=True):
                chunks.append(Chunk(*self.start(prompt, bound, 0)))
            ends = list(accumulate(len(chunk.ids) for chunk in chunks))
            counts = [prompt.length - bound for prompt, bound in zip(prompts, known, strict=True)]
            wanted = [at for end, count in zip(ends, counts, strict=True) for at in range(end - count, end)]
            reading.logits += torch.split(self.pass_over(chunks, wanted), counts)
            for at, (prompt, chunk) in enumerate(zip(prompts, chunks, strict=True), first):
                self.keep(chunk.row, prompt.root, prompt.ids)
                reading.read[at] += len(chunk.ids)
        except PoolFullError:
            if len(prompts) == 1:
                raise
        except Exception:
            self.abandon()
            raise
        else:
            return
        finally:
            for chunk in chunks:
                self.release(chunk.row)
        half = len(prompts) // 2
        for start, stop in ((0, half), (half, len(prompts))):
            done = self.prepare(prompts[start:stop], known[start:stop])
            for at, (read, looked) in enumerate(zip(done.read, done.looked, strict=True), first + start):
                reading.read[at] += read
                reading.looked[at] += looked
            self._read(prompts[start:stop], known[start:stop], reading, first + start)

    def pass_over(self, chunks: Sequence[Chunk], wanted: Sequence[int]) -> torch.Tensor:
        """Reads chunks in one forward pass.

        Args:
            chunks: What each row reads.
            wanted: Indices of the tokens, over all chunks, whose logits are returned.

        Returns:
            `[wanted, outputs]`.
        """
        self.flush()
        device = self.pool.shape.device
        ids = sent(torch.tensor([token for chunk in chunks for token in chunk.ids]), device)
        positions = sent(torch.cat([chunk.positions for chunk in chunks]), device)
        with phase("prefill"):
            forward_pass(len(chunks), len(ids))
            logits = self.run(chunks, ids, positions, sent(torch.tensor(wanted), device))
        for chunk in chunks:
            chunk.row.length += len(chunk.ids)
        return logits

    def _prefill(self, prompts: Sequence[Encoding]) -> None:
        """Reads the beginnings of prompts, images included, with the model's own attention, and keeps them."""
        extents = self._places_for(prompts) if self._pool is not None else []  # before the pass, which may be in vain
        try:
            layers = self._layers_of(prompts)
        except Exception:
            for extent in extents:
                self.pool.release(extent)
            raise
        if self._pool is None:
            self._pool = self._made(layers)
            extents = self._places_for(prompts)
        shifts = self._calls.shift(prompts)
        for row, (prompt, shift, extent) in enumerate(zip(prompts, shifts, extents, strict=True)):
            keys, values = ([half[row, :, : prompt.length] for half in halves] for halves in _halves(layers))
            self.pool.write(extent.start, keys, values)
            run = TokenRun(self.pool, extent, 0, prompt.length)
            self.tree.describe(prompt.root, shift, {})
            self.tree.insert(prompt.root, prompt.ids, run)
            run.release()

    def _layers_of(self, prompts: Sequence[Encoding]) -> list[Any]:
        """Returns the layers of a cache of prompts, padded on the right."""
        # Padding on the right leaves every real token's position and attention as they are alone.
        inputs = collate(prompts, self._checkpoint, "right")
        cache = roomy_cache()
        with phase("prefill"):
            forward_pass(len(prompts), sum(prompt.length for prompt in prompts))
            self._calls.forward(**inputs, cache=cache, keep=1)
        layers: list[Any] = list(cache.layers)
        if layers[0].keys.shape[2] != inputs["input_ids"].shape[1]:
            raise CannotForkError("it turns an image's one token into several")
        return layers

    def _places_for(self, prompts: Sequence[Encoding]) -> list[Extent]:
        """Returns an extent for the tokens of each prompt."""
        extents: list[Extent] = []
        try:
            for prompt in prompts:
                extents.append(self.pool.allocate(prompt.length))  # noqa: PERF401  # those before a full pool stay
        except PoolFullError:
            for extent in extents:
                self.pool.release(extent)
            raise
        return extents

    def _made(self, layers: Sequence[Any]) -> KvPool:
        shapes = {(half.shape[1], half.shape[3]) for halves in _halves(layers) for half in halves}
        keys, values = layers[0].keys, layers[0].values
        if shapes - {(keys.shape[1], keys.shape[3]), (values.shape[1], values.shape[3])} or (
            keys.shape[1] != values.shape[1]
        ):
            raise CannotForkError("its layers keep states of different shapes")
        shape = PoolShape(len(layers), keys.shape[1], keys.shape[3], values.shape[3], keys.dtype, keys.device)
        if self._serves and self.size is None:
            self.size = pool_tokens(self._checkpoint, shape.token_bytes)
            if self.size is not None:
                self.tree.limit = self.size * shape.token_bytes  # what no row needs is kept for later prompts
        pool = KvPool(shape, self.size)
        pool.evict = self._evict
        self._plans = Plans(pool.shape, getattr(self._text, "num_attention_heads", None))
        return pool

    def _evict(self) -> bool:
        """Frees a quarter of what is kept for later, but nothing that rows hold."""
        self.flush()  # pending copies read from it
        if self._questions.drop_unused():
            return True
        before = self.tree.size
        self.tree.shrink(before * 3 // 4, lambda run: run.extent in self._held)
        return self.tree.size < before


def _halves(layers: Sequence[Any]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    return [layer.keys for layer in layers], [layer.values for layer in layers]


def _contiguous(pieces: Sequence[TokenRun]) -> int:
    """Returns how many tokens of the pieces lie side by side in the first extent."""
    first, count = pieces[0], len(pieces[0])
    for piece in pieces[1:]:
        if piece.extent is not first.extent or piece.start != first.start + count:
            break
        count += len(piece)
    return count


def passes(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Divides prompts into passes of at most `_TOKENS` new tokens: yields first and last index of each."""
    start, total = 0, 0
    for at, length in enumerate(lengths):
        if total and total + length > _TOKENS:
            yield start, at
            start, total = at, 0
        total += length
    yield start, len(lengths)
