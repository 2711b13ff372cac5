"""How fast a run is, and what its models did with the time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from atomthink_plugin.api import CriticScorer, Result, Usage
from atomthink_plugin.inference.phases import BESIDE, ModelWork, PhaseClock
from atomthink_plugin.runtime.runner import Runner


@dataclass(frozen=True, slots=True)
class ModelSpeed:
    """What one model did during a run.

    Attributes:
        work: The work that it did in this time.
        seconds: The time.
    """

    work: ModelWork
    seconds: float

    @property
    def rows(self) -> Counter[int]:
        """How often, or how long, this many rows were in flight.

        Rows of the forward passes that decode, or of all forward passes of a model that does not. For a model in
        another process, the samples that were requested and not finished.
        """
        phases = self.work.phases
        decoded = phases["decode"].passes if "decode" in phases else {}
        return Counter(
            decoded or self.work.in_flight or sum((Counter(one.passes) for one in phases.values()), Counter())
        )

    @property
    def mean_rows(self) -> float:
        """Mean number of rows in flight while there were any."""
        rows = self.rows
        return sum(count * weight for count, weight in rows.items()) / (sum(rows.values()) or 1)

    @property
    def most_rows(self) -> int:
        """Largest number of rows in flight."""
        return max(self.rows, default=0)

    @property
    def shares(self) -> dict[str, float]:
        """The share of the time of each phase, the largest first, and of `waiting` at the end.

        `request` is the share in which a model in another process had something to do. `waiting` is the time in which
        the model had nothing to do; `encode` runs beside the other phases and is not part of this account.
        """
        found: dict[str, float] = {name: one.seconds for name, one in self.work.phases.items()}
        if self.work.requests:
            found["request"] = sum(self.work.in_flight.values())
        shares = {name: spent / self.seconds for name, spent in sorted(found.items(), key=lambda one: -one[1])}
        busy = sum(share for name, share in shares.items() if name not in BESIDE)
        return {**shares, "waiting": max(0.0, 1 - busy)}

    def to_json(self) -> dict[str, Any]:
        """Returns the numbers as plain data."""
        return {
            "mean_rows": self.mean_rows,
            "most_rows": self.most_rows,
            "requests": self.work.requests,
            "shares": self.shares,
        }

    def __str__(self) -> str:
        """Returns one line."""
        shares = ", ".join(f"{name} {share:.0%}" for name, share in self.shares.items() if share >= 0.005)
        requests = f", {self.work.requests:,} requests" if self.work.requests else ""
        return f"{self.mean_rows:.1f} rows in flight (at most {self.most_rows}){requests}; {shares}"


@dataclass(frozen=True, slots=True)
class RunSpeed:
    """How fast a run is.

    Attributes:
        seconds: Its time.
        sampled: Tokens that its policies and a generative scorer sampled.
        prefilled: Prompt tokens that its models processed.
        models: Its models by their role: `policy`, `prm` and the roles of the search.
    """

    seconds: float
    sampled: int
    prefilled: int
    models: Mapping[str, ModelSpeed]

    def to_json(self) -> dict[str, Any]:
        """Returns the numbers as plain data."""
        return {
            "seconds": self.seconds,
            "sampled": self.sampled,
            "prefilled": self.prefilled,
            "tokens_per_second": self.sampled / self.seconds,
            "models": {role: model.to_json() for role, model in self.models.items()},
        }

    def flat(self) -> dict[str, float]:
        """Returns the numbers of the models under one name each: `policy_mean_rows`, `policy_share_decode`, ..."""
        numbers: dict[str, float] = {}
        for role, model in self.models.items():
            numbers[f"{role}_mean_rows"] = model.mean_rows
            numbers[f"{role}_most_rows"] = model.most_rows
            numbers |= {f"{role}_share_{name}": share for name, share in model.shares.items()}
        return numbers

    def lines(self) -> list[str]:
        """Returns one line about the tokens and one about each model."""
        counts = {"sampled": self.sampled, "prefilled": self.prefilled}
        tokens = (f"{count:,} tokens {name} ({count / self.seconds:,.0f}/s)" for name, count in counts.items() if count)
        return [
            ", ".join([f"{self.seconds:.1f} s", *tokens]),
            *(f"{role}: {model}" for role, model in self.models.items()),
        ]


@dataclass
class RunMeter:
    """Measures a run from the creation of this object on.

    Attributes:
        models: The policies and scorers by their roles. A generative scorer counts as the policy that it asks. Models
            without an attribute `clock` are left out.
    """

    models: Mapping[str, object]
    _usage: Usage = field(default_factory=Usage)
    _started: float = field(default_factory=time.perf_counter)
    _before: dict[str, ModelWork] = field(init=False)

    def __post_init__(self) -> None:
        self._before = {role: clock.work() for role, clock in self._clocks()}

    def finished(self, result: Result, spent: Usage | None) -> None:
        """Counts the cost of one question, see `atomthink_plugin.runtime.runner.Finished`."""
        if spent is not None:
            self.add(spent)

    def add(self, usage: Usage) -> None:
        """Counts tokens."""
        self._usage += usage

    def speed(self) -> RunSpeed:
        """Returns what was measured up to now."""
        seconds = time.perf_counter() - self._started
        models = {role: ModelSpeed(clock.work().since(self._before[role]), seconds) for role, clock in self._clocks()}
        return RunSpeed(seconds, self._usage.tokens, self._usage.prefilled, models)

    def _clocks(self) -> list[tuple[str, PhaseClock]]:
        """Returns the clocks by role. A model with several roles is listed once."""
        known: dict[int, tuple[str, PhaseClock]] = {}
        for role, model in self.models.items():
            asked = model.critic if isinstance(model, CriticScorer) else model
            if isinstance(clock := getattr(asked, "clock", None), PhaseClock):
                known.setdefault(id(clock), (role, clock))
        return list(known.values())


def models_of(runner: Runner) -> dict[str, object]:
    """Returns the models of a runner by their roles."""
    return {"policy": runner.policy, "prm": runner.scorer, **runner.roles}
