"""What a probe of `atomthink doctor` reports, and how probes are run: one that raises does not end the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from atomthink_plugin.tables import Grid


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that would fail.

    Attributes:
        text: What fails and what to do, in one line.
        broken: Whether something that every run needs is broken.
    """

    text: str
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """What one probe found.

    Attributes:
        facts: Pairs of a name and what was found.
        problems: What would fail.
        table: A table that is printed before the facts.
    """

    facts: Sequence[tuple[str, str]] = ()
    problems: Sequence[Problem] = ()
    table: Grid | None = None


Probe = Callable[[], Finding]
"""Looks at one thing. It may raise: the error is the finding then."""


def examine(name: str, probe: Probe) -> Finding:
    """Runs a probe. An exception or an exit becomes a fact and a problem.

    Args:
        name: What the probe looks at, for the report of an exception.
        probe: The probe.
    """
    try:
        return probe()
    except (Exception, SystemExit) as error:
        lines = f"{type(error).__name__}: {error}".splitlines()
        return Finding([(name, f"not checked ({lines[0]})")], [Problem(f"{name} cannot be checked: {lines[0]}.")])
