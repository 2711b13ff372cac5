"""`atomthink atoms evaluate`: how well a model does each kind of step."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.tables import Grid, print_grid
from atomthink_plugin.tasks.capability.estimates import Capability, capabilities, steps_of
from atomthink_plugin.tasks.capability.records import StepRecord
from atomthink_plugin.tasks.capability.report_page import HEADINGS, page, shown
from atomthink_plugin.tasks.capability.rollouts import measure, prefixes
from atomthink_plugin.tasks.capability.taxonomy import Taxonomy

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CapabilityReport:
    """An evaluation.

    Attributes:
        rollouts: From each prefix.
        prefixes: How many were asked.
        failed: How many could not be.
        reasons: Why, each once.
        seconds: What the rollouts took.
        rows: What they say.
    """

    rollouts: int
    prefixes: int
    failed: int
    reasons: tuple[str, ...]
    seconds: float
    rows: tuple[Capability, ...]


def evaluate(
    records: Sequence[StepRecord], folder: Path, taxonomy: Taxonomy, runner: Runner, rollouts: int
) -> CapabilityReport:
    """Rolls out from all prefixes and returns what that says about the abilities.

    Args:
        records: The set.
        folder: What their images are relative to.
        taxonomy: Has the records' abilities.
        runner: The policy and its settings.
        rollouts: From each prefix.

    Raises:
        AtomThinkError: A record's ability is not in the taxonomy, or no prefix could be asked.
    """
    needed = prefixes(records, folder)
    started = time.monotonic()
    measured = measure(needed, runner, rollouts)
    failed = [result for result in measured.values() if result.share is None]
    if len(failed) == len(needed):
        raise AtomThinkError(f"none of the {len(needed)} prefixes could be asked; first: {failed[0].reason}")
    return CapabilityReport(
        rollouts=rollouts,
        prefixes=len(needed),
        failed=len(failed),
        reasons=tuple(dict.fromkeys(result.reason for result in failed)),
        seconds=time.monotonic() - started,
        rows=tuple(capabilities(steps_of(records, measured), taxonomy)),
    )


def table(report: CapabilityReport, title: str) -> Grid:
    """Returns the capabilities as they are printed; groups and all of them below the abilities."""
    cells = [
        (row.name, shown(row.quality), shown(row.utilisation), shown(row.gain), str(row.records), str(row.chains))
        for row in report.rows
    ]
    abilities = sum(bool(row.group) for row in report.rows)
    return Grid(title, HEADINGS, cells, sections=frozenset({abilities}))


def publish(report: CapabilityReport, title: str, as_json: Path | None, as_html: Path | None) -> None:
    """Prints a report and writes the files that were asked for."""
    print_grid(table(report, title))
    if report.failed:
        log.error(
            "%d of %d prefixes could not be asked and are left out; first: %s",
            *(report.failed, report.prefixes, report.reasons[0]),
        )
    if as_json is not None:
        as_json.write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")
    if as_html is not None:
        notes = [
            f"{report.rollouts} rollouts from each of {report.prefixes} prefixes, {report.failed} of them failed; 95 % "
            "intervals by bootstrap over chains.",
            "Quality: how often the model gets such a step right itself. Utilisation: how often it reaches the right "
            "answer after a right step of that kind. Gain: utilisation minus the control without history.",
        ]
        as_html.write_text(page(title, report.rows, notes), encoding="utf-8")
