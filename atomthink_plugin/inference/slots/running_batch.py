"""A batch that rows join and leave at any step."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import torch

from atomthink_plugin.inference.checkpoints import Checkpoint, end_ids
from atomthink_plugin.inference.decoding import GenerationOutput
from atomthink_plugin.inference.phases import forward_pass, phase
from atomthink_plugin.inference.sampling import RowEnd, complete
from atomthink_plugin.inference.slots.allocator import PoolFullError
from atomthink_plugin.inference.slots.decode_runner import DecodeRunner, DecodeSteps, firsts
from atomthink_plugin.inference.slots.decode_step import DecodeKind, DecodeState, RowStart, results_of, sample
from atomthink_plugin.inference.slots.generation import Generation, diverge, hand_over, row_of, shared_rows
from atomthink_plugin.inference.slots.reader import SlotReader, passes
from atomthink_plugin.inference.slots.row import Chunk
from atomthink_plugin.inference.slots.stop_marks import StopMarks
from atomthink_plugin.inference.slots.transfers import Fetched, sent

_ONE: Final = (0,)
"""The tokens of a row that reads the one it has sampled: the plan needs their number alone."""


@dataclass(frozen=True, slots=True)
class Stepped:
    """What a step of a batch did.

    Attributes:
        ended: Samples that have left the batch, with their outputs.
        refused: Samples that found no place in the pool.
    """

    ended: list[tuple[Generation, GenerationOutput]]
    refused: list[Generation]


class RunningBatch:
    """Rows that one forward pass after the other advances by a token each.

    On an accelerator, the host reads what a step sampled while the next one runs. A row that has ended then samples one
    token too many, which is dropped. Elsewhere, samples share a row as long as they sample the same tokens.

    Args:
        checkpoint: The model; its lock is the caller's to hold.
        reader: Reads the prompts.
        runner: Runs the steps in which no row joins.
        lag: Steps by which the host follows; None for what the device needs.
    """

    def __init__(
        self, checkpoint: Checkpoint, reader: SlotReader, runner: DecodeRunner, lag: int | None = None
    ) -> None:
        self._checkpoint, self._reader, self._runner = checkpoint, reader, runner
        self._lag = int(checkpoint.device.type != "cpu") if lag is None else lag
        self._ends = end_ids(checkpoint)
        self._marks: StopMarks | None = None
        self._samples: list[Generation] = []
        self._tests: dict[Generation, RowEnd] = {}
        self._state: DecodeState | None = None
        self._steps: DecodeSteps | None = None  # has the state, while rows neither join nor leave
        self._holders: list[Generation] = []  # whose rows these steps read
        self._reports: deque[_Report] = deque()

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def samples(self) -> Sequence[Generation]:
        """The samples that run."""
        return self._samples

    def step(self, joining: Sequence[Generation] = ()) -> Stepped:
        """Samples the next token of every row, and the first one of those that join.

        Args:
            joining: Samples that join.
        """
        with phase("cache"):
            refused = self._join(joining) if joining else []
        if len(refused) < len(joining):
            assert self._state is not None
            every = sent(torch.arange(len(self._samples)), self._checkpoint.device)
            self._reports.append(_Report(self._samples, results_of(self._state, every)))
        elif self._samples:
            self._reports.append(_Report(self._samples, self._decode()))
        return Stepped(self._read(), refused)

    def drop(self, samples: Sequence[Generation]) -> None:
        """Removes samples."""
        self._leave(set(samples))

    def clear(self, tried: Sequence[Generation]) -> None:
        """Removes all samples after a failed step, so that they can start again.

        Args:
            tried: All samples of the step.
        """
        self._reader.abandon()
        for one in tried:
            if one.row is not None:
                self._reader.release(one.row)
            one.restart()
        self._samples, self._state, self._steps = [], None, None
        self._tests.clear()
        self._reports.clear()

    def _decode(self) -> Fetched:
        if self._steps is None:
            assert self._state is not None
            with phase("cache"):
                self._holders, sources = shared_rows(self._samples)
                self._steps = self._runner.start(self._state, [row_of(one) for one in self._holders], sources)
        results = self._steps.step()
        for one in self._holders:
            row_of(one).length += 1
        return results

    def _settled(self) -> DecodeState | None:
        """Returns the rows' state before some join or leave."""
        if self._steps is not None:
            self._state, self._steps = self._steps.state(), None
        return self._state

    def _join(self, joining: Sequence[Generation]) -> list[Generation]:
        """Reads the prompts of samples in a pass with the running rows; returns those without a place in the pool."""
        families = _families(joining)
        siblings = {family[0]: family[1:] for family in families}
        leaders, refused = self._lead(families)
        if not leaders:
            return refused
        running = len(self._samples)
        self._samples = [*self._samples, *leaders]  # from here on `clear` frees their rows
        logits = self._mixed_pass(running, [Chunk(row_of(one), rest) for one, rest in leaders.items()])
        sources, twins = list(range(len(self._samples))), []
        for at, leader in enumerate(leaders, start=running):
            for twin in siblings[leader]:
                try:
                    twin.row = self._reader.fork(row_of(leader), twin.request.draw.max_tokens)
                except PoolFullError:
                    refused.append(twin)
                    continue
                if self._lag:
                    self._reader.copy(row_of(leader), twin.row)
                else:
                    twin.follows = leader
                twins.append(twin)
                sources.append(at)
        self._samples = [*self._samples, *twins]
        self._reader.flush()
        self._reader.tree.shrink()
        self._start(running, logits.shape[-1])
        assert self._state is not None
        with phase("sample"):
            sample(self._state, logits[sent(torch.tensor(sources), logits.device)])
        return refused

    def _lead(self, families: Sequence[list[Generation]]) -> tuple[dict[Generation, tuple[int, ...]], list[Generation]]:
        """Gives the first sample of each prompt a row.

        Known questions come first: their rows hold them when new ones need a place.

        Returns:
            These samples, each with what it has to read, and the samples without a place in the pool.
        """
        known, new = list[list[Generation]](), list[list[Generation]]()
        for family in families:
            (known if self._reader.knows(family[0].request.prompt) else new).append(family)
        leaders, refused = self._lead_prepared(known) if known else ({}, [])
        if not new:
            return leaders, refused
        if refused:
            return leaders, [*refused, *(one for family in new for one in family)]
        more, refused = self._lead_prepared(new)
        return {**leaders, **more}, refused

    def _lead_prepared(
        self, families: Sequence[list[Generation]]
    ) -> tuple[dict[Generation, tuple[int, ...]], list[Generation]]:
        """Does what `_lead` does; all families are prepared before the first one gets a row."""
        prompts = [family[0].request.prompt for family in families]
        bounds = [prompt.length - 1 for prompt in prompts]
        leaders: dict[Generation, tuple[int, ...]] = {}
        refused: list[Generation] = []
        try:
            reading = self._reader.prepare(prompts, bounds)
        except PoolFullError:
            half = len(families) // 2
            if half:
                leaders, refused = self._lead_prepared(families[:half])
            return leaders, [*refused, *(one for family in families[half:] for one in family)]
        for family, bound, read, looked in zip(families, bounds, reading.read, reading.looked, strict=True):
            first = family[0]
            try:
                first.row, rest = self._reader.start(first.request.prompt, bound, first.request.draw.max_tokens)
            except PoolFullError:
                refused += family
                continue
            first.read, first.images = read + len(rest), looked
            leaders[first] = rest
        return leaders, refused

    def _mixed_pass(self, running: int, chunks: Sequence[Chunk]) -> torch.Tensor:
        """Reads the running rows' tokens and what joining rows have to read; returns logits of all, `[rows, words]`."""
        *before, (start, stop) = passes([len(chunk.ids) for chunk in chunks])
        logits = [
            self._reader.pass_over(chunks[first:last], _last_indices(chunks[first:last])) for first, last in before
        ]
        holders, sources = shared_rows(self._samples[:running])
        rows = [Chunk(row_of(one), _ONE) for one in holders]
        mixed = [*rows, *chunks[start:stop]]
        device = self._checkpoint.device
        ids = sent(torch.tensor([token for chunk in mixed for token in chunk.ids]), device)
        positions = sent(torch.cat([chunk.positions for chunk in mixed]), device)
        if (state := self._settled()) is not None:
            ids[: len(rows)] = state.ids[sent(firsts(sources), device)]
            state.positions.add_(1)
        self._reader.flush()
        wanted = sent(torch.tensor(_last_indices(mixed)), device)
        with phase("decode" if running else "prefill"):
            forward_pass(len(mixed), len(ids))
            last = self._reader.run(mixed, ids, positions, wanted)
        for chunk in mixed:
            chunk.row.length += len(chunk.ids)
        if not logits and len(rows) == running:
            return last
        return torch.cat([last[sent(torch.tensor(sources, dtype=torch.int64), device)], *logits, last[len(rows) :]])

    def _start(self, running: int, vocabulary: int) -> None:
        """Adds the samples after the first `running` ones to the state."""
        tokenizer, device = self._checkpoint.tokenizer, self._checkpoint.device
        if self._marks is None:
            self._marks = StopMarks(tokenizer, self._ends, vocabulary, device)
        starts = []
        for one in self._samples[running:]:
            draw = one.request.draw
            self._tests[one] = RowEnd(draw, tokenizer)
            starts.append(RowStart(draw, row_of(one).position, self._marks.index(draw.stops)))
        kind = DecodeKind.of([one.request.draw for one in self._samples])
        state = DecodeState.of(starts, kind, self._marks.table)
        if self._state is not None:
            state = self._state.take(torch.arange(running, device=device), kind).joined(state)
        self._state = state

    def _read(self) -> list[tuple[Generation, GenerationOutput]]:
        """Reads what was sampled `lag` steps ago; samples that have ended leave."""
        ended: list[Generation] = []
        while len(self._reports) > self._lag:
            with phase("device"):
                rows = self._reports.popleft().rows()
            with phase("ends"):
                ended += [
                    one
                    for one, token, flag, logprobs in rows
                    if one in self._tests and self._ends_with(one, token, flag, logprobs)
                ]
        with phase("ends"):
            done = [(one, self._output(one)) for one in ended]
        with phase("cache"):
            for one in ended:
                ids, row = (*one.request.prompt.ids, *one.ids[:-1]), row_of(one.holder)
                row.length = len(ids) - len(row.shared)  # the host may be a step behind
                self._reader.keep(row, one.request.prompt.root, ids)
            self._leave(set(ended))
            if not self._lag and diverge(self._samples, self._reader):
                self._settled()
                self._reader.flush()
        return done

    def _ends_with(self, one: Generation, token: int, flag: int, logprobs: list[float]) -> bool:
        """Adds a token to a sample; returns whether it is the last one."""
        one.ids.append(token)
        one.logprobs.append(logprobs)
        return bool(flag) and (token in self._ends or self._tests[one].reached(one.ids))

    def _leave(self, samples: set[Generation]) -> None:
        if not samples:
            return
        self._reader.flush()
        hand_over(samples, self._samples)
        going = [at for at, one in enumerate(self._samples) if one not in samples]
        for one in self._samples:
            if one in samples:
                self._reader.release(row_of(one))
                one.row = one.follows = None
                del self._tests[one]
        state, self._samples = self._settled(), [self._samples[at] for at in going]
        if not going:
            self._state = None
            self._reports.clear()
            self._reader.tree.shrink()
        elif state is not None:
            self._state = state.take(sent(torch.tensor(going), self._checkpoint.device), state.kind)

    def _output(self, one: Generation) -> GenerationOutput:
        prompt, draw = one.request.prompt, one.request.draw
        return GenerationOutput(
            complete(one.ids, one.logprobs, draw, self._checkpoint.tokenizer, self._ends, prompt.said),
            prefilled=one.read,
            cached=prompt.length - one.read,
            images=one.images,
        )


@dataclass(frozen=True, slots=True)
class _Report:
    """What a step sampled.

    Attributes:
        samples: The batch's rows.
        results: See `results_of`.
    """

    samples: Sequence[Generation]
    results: Fetched

    def rows(self) -> list[tuple[Generation, int, int, list[float]]]:
        """Returns each row's sample, token, flag and log-probabilities."""
        integers, logprobs = self.results.wait()
        return list(zip(self.samples, *integers.tolist(), logprobs.tolist(), strict=True))


def _last_indices(chunks: Sequence[Chunk]) -> list[int]:
    """Returns the place of each chunk's last token in their pass."""
    return [end - 1 for end in accumulate(len(chunk.ids) for chunk in chunks)]


def _families(samples: Sequence[Generation]) -> list[list[Generation]]:
    """Returns samples of one prompt together."""
    families: dict[tuple[str, tuple[int, ...]], list[Generation]] = {}
    for one in samples:
        prompt = one.request.prompt
        families.setdefault((prompt.root, prompt.ids), []).append(one)
    return list(families.values())
