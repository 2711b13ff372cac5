"""The measured capability of a model, as a table, as JSON, and as a page."""

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
from atomthink_plugin.tasks.capability.estimates import Capability, capabilities, step_rates
from atomthink_plugin.tasks.capability.records import StepRecord
from atomthink_plugin.tasks.capability.report_page import HEADINGS, page, percent
from atomthink_plugin.tasks.capability.rollouts import measure_prefixes, prefix_questions
from atomthink_plugin.tasks.capability.taxonomy import Taxonomy

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CapabilityReport:
    """The capability of a model.

    Attributes:
        rollouts: Rollouts from each prefix.
        prefixes: Number of prefixes.
        failed: Number of prefixes that failed.
        reasons: The different reasons of these failures.
        seconds: Time of the rollouts.
        rows: The estimates.
    """

    rollouts: int
    prefixes: int
    failed: int
    reasons: tuple[str, ...]
    seconds: float
    rows: tuple[Capability, ...]


def measure_capability(
    records: Sequence[StepRecord], folder: Path, taxonomy: Taxonomy, runner: Runner, rollouts: int
) -> CapabilityReport:
    """Samples rollouts from all prefixes and estimates the abilities.

    Args:
        records: The step records.
        folder: The folder that their images are relative to.
        taxonomy: The abilities of the records.
        runner: The policy and its settings.
        rollouts: Rollouts from each prefix.

    Raises:
        AtomThinkError: The taxonomy lacks an ability of the records, or all prefixes failed.
    """
    questions = prefix_questions(records, folder)
    started = time.monotonic()
    measured = measure_prefixes(questions, runner, rollouts)
    failed = [result for result in measured.values() if result.share is None]
    if len(failed) == len(questions):
        raise AtomThinkError(f"all {len(questions)} prefixes failed. The first reason: {failed[0].reason}")
    return CapabilityReport(
        rollouts=rollouts,
        prefixes=len(questions),
        failed=len(failed),
        reasons=tuple(dict.fromkeys(result.reason for result in failed)),
        seconds=time.monotonic() - started,
        rows=tuple(capabilities(step_rates(records, measured), taxonomy)),
    )


def capability_table(report: CapabilityReport, title: str) -> Grid:
    """Returns the printed table: abilities, then groups and the total."""
    cells = [
        (row.name, percent(row.quality), percent(row.utilisation), percent(row.gain), str(row.records), str(row.chains))
        for row in report.rows
    ]
    abilities = sum(bool(row.group) for row in report.rows)
    return Grid(title, HEADINGS, cells, sections=frozenset({abilities}))


def publish(report: CapabilityReport, title: str, json_file: Path | None, html_file: Path | None) -> None:
    """Prints a report and writes it to the files that are not None."""
    print_grid(capability_table(report, title))
    if report.failed:
        log.error(
            "%d of %d prefixes failed and are left out. The first reason: %s",
            *(report.failed, report.prefixes, report.reasons[0]),
        )
    if json_file is not None:
        json_file.write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")
    if html_file is not None:
        notes = [
            f"{report.rollouts} rollouts from each of {report.prefixes} prefixes; {report.failed} prefixes failed. "
            "95 % intervals by bootstrap over chains.",
            "Quality: estimated probability that the model performs such a step correctly. Utilisation: probability of "
            "the right answer after a right step of this kind. Gain: utilisation minus the control without history.",
        ]
        html_file.write_text(page(title, report.rows, notes), encoding="utf-8")
