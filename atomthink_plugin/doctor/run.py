"""Runs all probes and prints one screen."""

from __future__ import annotations

import logging
import pkgutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Final

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.doctor.findings import Finding, examine
from atomthink_plugin.doctor.hub import HubRequest
from atomthink_plugin.tables import print_facts, print_grid

_HERE: Final = "atomthink_plugin.doctor"

PROBES: Final = {
    "versions": f"{_HERE}.versions:versions",
    "device": f"{_HERE}.hardware:devices",
    "open files": f"{_HERE}.hardware:open_files",
    "HF hub cache": f"{_HERE}.storage:hub_cache",
    "data sets": f"{_HERE}.storage:datasets_cache",
    "journals": f"{_HERE}.storage:journals",
    "plugins": f"{_HERE}.offers:plugins",
    "lmms-eval": f"{_HERE}.offers:models",
    "imports": f"{_HERE}.offers:harness_imports",
    "judge": "atomthink_plugin.tasks.doctor_probes:judge",
    "tasks": "atomthink_plugin.tasks.doctor_probes:tasks",
    "embedded model": f"{_HERE}.embedded:embedded_model",
}
"""The probe of each name. They are named and not imported: an import that fails is a finding, and the engine does not
import tasks."""


def run_doctor() -> None:
    """Runs all probes, and prints what they found and what would fail.

    Raises:
        AtomThinkError: Something that every run needs is broken.
    """
    hub = HubRequest()
    with _quiet():
        findings = [examine(name, partial(_run, path)) for name, path in PROBES.items()]
        findings.append(examine("model hub", hub.finding))
    show(findings)


def _run(path: str) -> Finding:
    found: Finding = pkgutil.resolve_name(path)()
    return found


def show(findings: Sequence[Finding]) -> None:
    """Prints findings.

    Raises:
        AtomThinkError: One of the problems breaks every run.
    """
    for finding in findings:
        if finding.table is not None:
            print_grid(finding.table)
    print_facts("This machine", [fact for finding in findings for fact in finding.facts])
    problems = sorted((one for finding in findings for one in finding.problems), key=lambda one: not one.broken)
    if problems:
        print_facts("What would fail", [("error" if one.broken else "note", one.text) for one in problems])
    if any(one.broken for one in problems):
        raise AtomThinkError("something that every run needs is broken: see `error` above")
    print("The demo works here: atomthink demo")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the logs and warnings of what is examined: the screen has them."""
    with ExitStack() as undo:
        undo.callback(logging.disable, logging.root.manager.disable)
        logging.disable(logging.CRITICAL)
        with suppress(ImportError):
            from loguru import logger

            for name in ("atomthink_plugin", "lmms_eval"):
                logger.disable(name)
                undo.callback(logger.enable, name)
        undo.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        yield
