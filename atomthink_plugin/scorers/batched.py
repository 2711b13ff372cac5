"""What scorers with a model in this process share: batches of all waiting paths, and few logits kept."""

from __future__ import annotations

import inspect
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import torch
from transformers import PreTrainedTokenizerBase

from atomthink_plugin.api import AtomThinkError, Path, QuestionError, Score, Step, Usage
from atomthink_plugin.inference.batch_size import BatchSize, batch_limit
from atomthink_plugin.inference.checkpoint_files import first_line
from atomthink_plugin.inference.checkpoints import Checkpoint
from atomthink_plugin.inference.encoding import Encoding, collate, group
from atomthink_plugin.inference.forward_passes import forward_passes
from atomthink_plugin.inference.model_calls import CannotForkError
from atomthink_plugin.inference.phases import PhaseClock, forward_pass, phase
from atomthink_plugin.inference.prefix_cache.reader import CACHE_GIB, PrefixReader
from atomthink_plugin.inference.slots.reader import SlotReader
from atomthink_plugin.inference.trial import STEPS, questions, reason_of
from atomthink_plugin.runtime.batcher import MicroBatcher
from atomthink_plugin.runtime.model_thread import model_thread

log = logging.getLogger(__name__)

_FAR: Final = {True: 1e-3, False: 0.05}
"""Differences of two scores above this are no rounding error: in float32 (True), in lower precision (False)."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The model input for one path, and which of its logits are needed.

    Attributes:
        encoding: The path up to its last step.
        first: Position of the first logits wanted; all from there to `last` are kept.
        last: Position of the last logits wanted.
        targets: Ids whose log-probabilities are summed, one per position, for scorers that need them.
    """

    encoding: Encoding
    first: int
    last: int
    targets: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """One path's score, and its share of the work."""

    value: float
    prefilled: int
    cached: int
    images: int


class BatchedScorer(ABC):
    """A scorer that runs a model in this process, batched over all questions that wait.

    Causal attention leaves earlier steps' scores unchanged, so a path is read up to its last step and
    only that one is scored; earlier tokens come from the cache.

    Args:
        checkpoint: The loaded PRM; a policy may share it.
        batch_size: Paths in one batch at most; `auto` for as many as fit, see `atomthink_plugin.inference.batch_size`.
        cache_gib: GiB of keys and values kept between batches; 0 reads every path in full.
    """

    def __init__(self, checkpoint: Checkpoint, batch_size: BatchSize, cache_gib: float = CACHE_GIB) -> None:
        self.identity = checkpoint.identity
        self.clock = PhaseClock()
        self._checkpoint = checkpoint
        self._keeps = "logits_to_keep" in inspect.signature(checkpoint.model.forward).parameters
        self._alone = False
        self._trial: list[tuple[Reading, float]] = []
        self._limit = int(cache_gib * 2**30)
        self._reader: SlotReader | PrefixReader | None = None
        if cache_gib > 0:
            self._share_prefixes()
        limit = batch_limit(batch_size, checkpoint, cache_gib)
        self._batcher: MicroBatcher[Reading, Verdict] = MicroBatcher(self.read, limit, model_thread(checkpoint.device))

    @abstractmethod
    def encode(self, path: Path) -> Reading:
        """Returns the model's input and which logits to read."""

    @abstractmethod
    def probability(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Returns the score, a scalar, from float32 logits `[positions, outputs]` and ids `[positions]`."""

    async def score(self, path: Path) -> Score:
        """Scores the last step of `path`.

        Raises:
            QuestionError: The chain is longer than the PRM's context.
            AtomThinkError: The PRM gave no number.
        """
        with self.clock.active(), phase("encode"):
            reading = self.encode(path)
        length, context = reading.encoding.length, self._checkpoint.context
        if context is not None and length > context:
            raise QuestionError(
                f"question and steps have {length} tokens, the PRM's context is {context}: name a PRM with a "
                "longer context, or lower max_steps or step_tokens of the search"
            )
        verdict = await self._verdict(reading, path.depth)
        if not math.isfinite(verdict.value):
            raise self._no_number(verdict.value)
        usage = Usage(score_calls=1, prefilled=verdict.prefilled, cached=verdict.cached, images=verdict.images)
        return Score(verdict.value, usage)

    async def _verdict(self, reading: Reading, urgency: int) -> Verdict:
        try:
            return await self._batcher.submit(reading, urgency)
        except Exception as error:
            encoding = reading.encoding
            raise AtomThinkError(
                f"the PRM {self.identity} fails at this path ({encoding.images} images, {encoding.length} tokens): "
                f"{reason_of(error)}"
            ) from error

    def check(self) -> None:
        """Compares scores of paths read together and from the cache with scores of each read alone, and falls back.

        To be called once, before the first question. A PRM that reads images is tried on questions with an image.

        Raises:
            AtomThinkError: The PRM fails at them.
        """
        try:
            self._check()
        except AtomThinkError:
            raise
        except Exception as error:
            raise AtomThinkError(
                f"the PRM {self.identity} cannot score a step ({type(error).__name__}: {first_line(error)}): name "
                "another PRM"
            ) from error

    def _check(self) -> None:
        short, long = questions(images=self._checkpoint.processor is not None)
        first, other = (Path(question).extend(Step(STEPS[0]), None) for question in (short, long))
        readings = [self.encode(path) for path in (first, other, first.extend(Step(STEPS[1]), None))]
        context = self._checkpoint.context
        if context is not None and max(reading.encoding.length for reading in readings) > context:
            return
        with forward_passes(self._checkpoint):
            alone = [self._read_in_full([reading])[0].value for reading in readings]
            if not all(map(math.isfinite, alone)):
                raise self._no_number(next(value for value in alone if not math.isfinite(value)))
            self._trial = list(zip(readings, alone, strict=True))
            if self._reader is None:
                self._check_padding()
                return
            while self._reader is not None and (fault := self._fault(partial(self._read_from_cache, self._reader))):
                self._fall_back(fault)
            if self._reader is not None:
                self._reader.forget()

    def read(self, readings: Sequence[Reading]) -> list[Verdict]:
        """Scores readings in as few forward passes as their shapes allow; results in their order."""
        verdicts: dict[int, Verdict] = {}
        with forward_passes(self._checkpoint), self.clock.active():
            if isinstance(self._reader, SlotReader):
                self._reader.serve()
            for indices in group([reading.encoding for reading in readings]):
                batch = self._forward([readings[index] for index in indices])
                verdicts.update(zip(indices, batch, strict=True))
        return [verdicts[index] for index in range(len(readings))]

    def _forward(self, readings: Sequence[Reading]) -> list[Verdict]:
        if self._alone:
            return [verdict for reading in readings for verdict in self._read_in_full([reading])]
        if self._reader is None:
            return self._read_in_full(readings)
        try:
            return self._read_from_cache(self._reader, readings)
        except CannotForkError as error:
            self._fall_back(str(error))
            return self._forward(readings)

    def _fault(self, read: Callable[[Sequence[Reading]], list[Verdict]]) -> str | None:
        """Returns how scores of the trial's paths differ from those in batches of one, None if they do not.

        The last path extends the first and is read after it, so that the cache has its beginning.
        """
        for batch in (self._trial[:2], self._trial[1:]):
            if not batch:
                return None
            try:
                verdicts = read([reading for reading, _ in batch])
            except Exception as error:
                return reason_of(error)
            far = max(abs(verdict.value - value) for verdict, (_, value) in zip(verdicts, batch, strict=True))
            if not far <= _FAR[self._checkpoint.model.dtype == torch.float32]:
                return f"its score differs by {far:.2g} from that of a batch of one"
        return None

    def _read_from_cache(self, reader: SlotReader | PrefixReader, readings: Sequence[Reading]) -> list[Verdict]:
        with reader.bounded():
            batch = reader.read([reading.encoding for reading in readings], [reading.first for reading in readings])
        # Logits are aligned at the end.
        starts = [len(batch.logits[row]) - one.encoding.length + one.first for row, one in enumerate(readings)]
        values = self._values(batch.logits, readings, starts)
        return [
            Verdict(value, read, reading.encoding.length - read, looked)
            for value, reading, read, looked in zip(values, readings, batch.read, batch.looked, strict=True)
        ]

    def _read_in_full(self, readings: Sequence[Reading]) -> list[Verdict]:
        # Padding on the right leaves every real token's position and attention as they are alone.
        inputs = collate([reading.encoding for reading in readings], self._checkpoint, "right")
        wanted = sorted({at for reading in readings for at in range(reading.first, reading.last + 1)})
        keep = {"logits_to_keep": torch.tensor(wanted, device=self._checkpoint.device)} if self._keeps else {}
        with phase("prefill"):
            forward_pass(len(readings), sum(reading.encoding.length for reading in readings))
            logits = self._checkpoint.model(**inputs, **keep, use_cache=False)[0]
        # A checkpoint's own code may read an image as more tokens than its input has; they stand before the steps.
        more = 0 if self._keeps else logits.shape[1] - inputs["input_ids"].shape[1]
        row_of = {at: row for row, at in enumerate(wanted)} if self._keeps else {at: at + more for at in wanted}
        values = self._values(logits, readings, [row_of[reading.first] for reading in readings])
        encodings = [reading.encoding for reading in readings]
        return [Verdict(v, e.length, 0, e.images) for v, e in zip(values, encodings, strict=True)]

    def _values(
        self, logits: torch.Tensor | Sequence[torch.Tensor], readings: Sequence[Reading], starts: Sequence[int]
    ) -> list[float]:
        """Returns each row's score; its first logits are at its start."""
        values = []
        with phase("score"):
            for row, (reading, start) in enumerate(zip(readings, starts, strict=True)):
                kept = logits[row][start : start + reading.last + 1 - reading.first].float()
                targets = torch.tensor(reading.targets, dtype=torch.long, device=kept.device)
                values.append(self.probability(kept, targets))
            stacked = torch.stack(values)
        with phase("device"):
            return [float(value) for value in stacked.tolist()]

    def _share_prefixes(self) -> None:
        try:
            self._reader = SlotReader(self._checkpoint, self._limit)
        except CannotForkError as error:
            self._fall_back(str(error))

    def _fall_back(self, reason: str) -> None:
        """Reads in the next simpler way: from the slots of a pool, from forked caches, in full."""
        if not isinstance(self._reader, PrefixReader):
            log.info("the PRM %s does not run on the slots engine (%s): its cache is forked", self.identity, reason)
            try:
                self._reader = PrefixReader(self._checkpoint, self._limit)
                return
            except CannotForkError as error:
                reason = str(error)
        log.warning("the cache of the PRM %s cannot be forked (%s): every path is read in full", self.identity, reason)
        self._reader = None
        self._check_padding()

    def _check_padding(self) -> None:
        """Scores each path in a batch of size one from now on if a longer path in the batch changes its score."""
        if fault := self._fault(self._read_in_full):
            log.warning(
                "the PRM %s cannot be asked in batches (%s): each path gets its own forward pass", self.identity, fault
            )
            self._alone = True

    def _no_number(self, value: float) -> AtomThinkError:
        return AtomThinkError(f"the PRM {self.identity} gave {value}: try prm_dtype=float32 or prm_dtype=bfloat16")


def single_token(tokenizer: PreTrainedTokenizerBase, text: str, argument: str) -> int:
    """Returns the id of `text`.

    Raises:
        AtomThinkError: `text` is several tokens of this tokenizer, or none.
    """
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    if len(ids) == 1:
        return ids[0]
    # SentencePiece writes a word-boundary mark before a text that is itself a token.
    known = tokenizer.get_vocab().get(text)
    if known is None:
        raise AtomThinkError(
            f"{argument}={text!r} is {len(ids)} tokens of the PRM's tokenizer, not one: pass {argument}= with the "
            "token it was trained with"
        )
    return int(known)
