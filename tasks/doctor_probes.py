"""What `atomthink doctor` reports about the tasks and their judge."""

from __future__ import annotations

import os

from atomthink_plugin.doctor.findings import Finding, Problem
from atomthink_plugin.tasks.benchmarks.llm_judge import ENABLED
from atomthink_plugin.tasks.harness_patches import BUILTIN, KEEP_BUILTIN, NO_TASKS, TASKS, judge_key, missing_judge_key


def judge() -> Finding:
    """Looks at whether lmms-eval's judge has a key. The key is never shown."""
    missing = missing_judge_key()
    variable = judge_key()
    asked = os.environ.get(ENABLED) == "1"
    state = "its key is not checked" if variable is None else f"{variable} is {'not set' if missing else 'set'}"
    facts = [("judge", f"API_TYPE {os.environ.get('API_TYPE', 'openai')}: {state}")]
    if missing is None:
        return Finding(facts)
    text = f"Tasks of lmms-eval that ask a judge fail without {missing}, except MathVista and MathVerse."
    needed = f"{ENABLED}=1 asks a judge, which has no key: set {missing}."
    return Finding(facts, [Problem(needed if asked else text)])


def tasks() -> Finding:
    """Counts the tasks that are added to lmms-eval and those that are replaced."""
    if os.environ.get(NO_TASKS) == "1":
        return Finding([("tasks", f"none added or replaced: {NO_TASKS}=1")])
    added = [file for file in TASKS.rglob("*.yaml") if file.parent != BUILTIN and _is_task(file.read_text("utf-8"))]
    kept = os.environ.get(KEEP_BUILTIN) == "1" or missing_judge_key() is None
    replaced = 0 if kept else len(list(BUILTIN.glob("*.yaml")))
    return Finding([("tasks", f"{len(added)} added, with groups; {replaced} of lmms-eval's own scored by rules")])


def _is_task(settings: str) -> bool:
    return any(line.startswith(("task:", "group:")) for line in settings.splitlines())
