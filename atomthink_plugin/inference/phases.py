"""What a model does during a run: the time of each phase, and the rows and tokens of its forward passes.

Each model (policy, process reward model) has a `PhaseClock`. Code that works for a model marks its phases as it would
mark ranges for a profiler; the clock that is active in the calling thread gets the time:

    with clock.active():
        with phase("decode"):
            forward_pass(rows=12, tokens=12)
            logits = model(...)
        with phase("sample"):
            ...

Phases may be nested: the time of an inner phase is not part of the outer one. Without an active clock nothing is
measured. A phase takes about a microsecond, no lock and no synchronisation with the device.

The time is that of the host. Work on an accelerator is asynchronous: the host waits for it in the phase `device`.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Literal

Phase = Literal["encode", "prefill", "decode", "score", "sample", "ends", "cache", "device"]
"""A kind of work for a model.

- `encode`: turns text and images into inputs. Runs beside the other phases, in the thread of the searches.
- `prefill`: forward passes over new tokens of prompts, or of the paths that a process reward model scores.
- `decode`: forward passes over one token of each row.
- `score`: computes scores from the logits of a process reward model.
- `sample`: chooses tokens and computes their log-probabilities.
- `ends`: finds end tokens and stop strings.
- `cache`: finds, copies and keeps keys and values.
- `device`: waits for the accelerator.
"""

BESIDE: Final[frozenset[Phase]] = frozenset({"encode"})
"""Phases that run while the model's own thread does something else."""


@dataclass(frozen=True, slots=True)
class PhaseTotals:
    """The work of one phase.

    Attributes:
        seconds: Time, without that of inner phases.
        tokens: Tokens of the forward passes, without padding and rows that have ended.
        passes: Number of forward passes by their number of rows.
    """

    seconds: float = 0.0
    tokens: int = 0
    passes: Mapping[int, int] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class ModelWork:
    """The work of one model.

    Attributes:
        phases: The phases that occurred. Empty for models in other processes.
        requests: Requests to a model in another process, finished ones and those in flight.
        in_flight: Seconds by the number of samples that were requested and not finished, for the same models.
    """

    phases: Mapping[Phase, PhaseTotals] = field(default_factory=dict)
    requests: int = 0
    in_flight: Mapping[int, float] = field(default_factory=Counter)

    def since(self, earlier: ModelWork) -> ModelWork:
        """Returns the work that was added after `earlier`, an earlier reading of the same clock."""
        return ModelWork(
            {name: _difference(now, earlier.phases.get(name, PhaseTotals())) for name, now in self.phases.items()},
            self.requests - earlier.requests,
            Counter(self.in_flight) - Counter(earlier.in_flight),
        )


class PhaseClock:
    """Measures the phases of one model, in all threads that work for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ledgers: dict[int, _Ledger] = {}
        self._requests = 0
        self._rows = 0
        self._changed = 0.0
        self._in_flight: Counter[int] = Counter()

    @contextmanager
    def active(self) -> Iterator[None]:
        """A context in which the phases of the calling thread are those of this model."""
        ledger, outer = self._ledger(), _thread.ledger
        paused = outer.switch(None) if outer is not None else None
        _thread.ledger = ledger
        try:
            yield
        finally:
            _thread.ledger = outer
            if outer is not None:
                outer.switch(paused)

    @contextmanager
    def request(self, rows: int = 1) -> Iterator[None]:
        """A context around a request to a model in another process.

        Args:
            rows: Samples that are requested.
        """
        with self._lock:
            self._requests += 1
            self._change(rows)
        try:
            yield
        finally:
            with self._lock:
                self._change(-rows)

    def work(self) -> ModelWork:
        """Returns all work up to now."""
        with self._lock:
            self._change(0)
            in_flight, requests, ledgers = Counter(self._in_flight), self._requests, list(self._ledgers.values())
        totals: dict[Phase, PhaseTotals] = {}
        for ledger in ledgers:
            for name, one in ledger.totals():
                totals[name] = _sum(totals.get(name, PhaseTotals()), one)
        return ModelWork(totals, requests, in_flight)

    def _ledger(self) -> _Ledger:
        """Returns that of the calling thread. A thread may take over the id of one that has ended, and its ledger."""
        thread = threading.get_ident()
        ledger = self._ledgers.get(thread)
        if ledger is None:
            with self._lock:
                ledger = self._ledgers[thread] = _Ledger()
        return ledger

    def _change(self, rows: int) -> None:
        now = time.perf_counter()
        if self._rows:
            self._in_flight[self._rows] += now - self._changed  # type: ignore[assignment]  # Counter of floats
        self._rows += rows
        self._changed = now


class phase:  # noqa: N801  # used like a function, as `contextlib.suppress` is
    """A context in which the calling thread does this kind of work for the model whose clock is active.

    Args:
        name: The kind of work.
    """

    __slots__ = ("_ledger", "_name", "_outer")

    def __init__(self, name: Phase) -> None:
        self._name = name

    def __enter__(self) -> None:
        """Starts the phase and pauses the one around it."""
        self._ledger = _thread.ledger
        if self._ledger is not None:
            self._outer = self._ledger.switch(self._name)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the phase and continues the one around it."""
        if self._ledger is not None:
            self._ledger.switch(self._outer)


def proceed(name: Phase) -> None:
    """Turns the current phase of the calling thread into another one, for code that calls back at its second part.

    Args:
        name: The kind of work from now on.
    """
    if _thread.ledger is not None and _thread.ledger.current is not None:
        _thread.ledger.switch(name)


def forward_pass(rows: int, tokens: int) -> None:
    """Counts a forward pass in the current phase of the calling thread.

    Args:
        rows: Rows of the pass.
        tokens: New tokens in all of them, without padding and rows that have ended.
    """
    if _thread.ledger is not None:
        _thread.ledger.count(rows, tokens)


class _Ledger:
    """The phases of one model in one thread. Only this thread writes; others read copies.

    Attributes:
        current: The phase that the time is added to, None for none.
    """

    def __init__(self) -> None:
        self._seconds: dict[Phase, float] = defaultdict(float)
        self._tokens: dict[Phase, int] = defaultdict(int)
        self._passes: dict[Phase, Counter[int]] = defaultdict(Counter)
        self.current: Phase | None = None
        self._since = 0.0

    def switch(self, name: Phase | None) -> Phase | None:
        """Ends the current phase, starts another one, and returns the ended one."""
        now, ended = time.perf_counter(), self.current
        if ended is not None:
            self._seconds[ended] += now - self._since
        self.current, self._since = name, now
        return ended

    def count(self, rows: int, tokens: int) -> None:
        """Adds a forward pass to the current phase."""
        if self.current is not None:
            self._tokens[self.current] += tokens
            self._passes[self.current][rows] += 1

    def totals(self) -> Iterator[tuple[Phase, PhaseTotals]]:
        """Yields each phase with its work up to its last end."""
        seconds, tokens, passes = self._seconds.copy(), self._tokens.copy(), self._passes.copy()
        for name, spent in seconds.items():
            yield name, PhaseTotals(spent, tokens.get(name, 0), passes.get(name, Counter()).copy())


class _Thread(threading.local):
    ledger: _Ledger | None = None


_thread = _Thread()


def _sum(one: PhaseTotals, other: PhaseTotals) -> PhaseTotals:
    return PhaseTotals(
        one.seconds + other.seconds, one.tokens + other.tokens, Counter(one.passes) + Counter(other.passes)
    )


def _difference(later: PhaseTotals, earlier: PhaseTotals) -> PhaseTotals:
    return PhaseTotals(
        later.seconds - earlier.seconds,
        later.tokens - earlier.tokens,
        Counter(later.passes) - Counter(earlier.passes),
    )
