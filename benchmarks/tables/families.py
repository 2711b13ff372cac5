"""Tables of the architectures that run as a policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from benchmarks.tables.results import Record, grid, load, source

SHARED: Final = ("slots", "forking")
RUNS: Final = (*SHARED, "prefill", "prefill in single rows")
QUESTIONS: Final = ("image", "text", "two images")


def families_summary() -> str:
    """Returns how many architectures are built, run and share caches, for each version of transformers."""
    rows = []
    for version, one in load("families")["versions"].items():
        types = one["types"]
        hows = [how(record) for record in types.values()]
        rows.append(
            (
                version,
                len(types),
                len(types) - hows.count("not built"),
                sum(found in RUNS for found in hows),
                sum(found in SHARED for found in hows),
                hows.count("refused"),
                sum(differs(record) for record in types.values()),
                hows.count("crashed"),
            )
        )
    headings = ("transformers", "types", "built", "run", "on shared caches", "refused", "other tokens", "crashed")
    return grid(headings, rows)


def families() -> str:
    """Returns how each architecture runs."""
    record = load("families")
    newest, *older = record["versions"]
    rows = []
    for kind, one in record["versions"][newest]["types"].items():
        rows.append(
            (
                f"`{kind}`",
                how(one),
                *(cell(one, question) for question in QUESTIONS),
                *(_in(record["versions"][version], kind) for version in older),
                one.get("reason", "").replace("|", "\\|").replace("<", "\\<"),
            )
        )
    headings = ("type", newest, *QUESTIONS, *older, "why")
    return grid(headings, rows, left=len(headings)) + source("families", record)


def _in(version: Record, kind: str) -> str:
    """Returns how a type runs with another version of transformers, which may not have it."""
    if kind not in version["listed"]:
        return "not in it"
    return how(version["types"][kind]) if kind in version["types"] else "not measured"


def how(record: Record) -> str:
    """Returns how an architecture runs."""
    return str(record["outcome"]) if record["built"] else "not built"


def cell(record: Record, question: str) -> str:
    """Returns how a kind of question is answered: with the `same` tokens as plain `generate`, or not."""
    if how(record) not in RUNS:
        return ""
    if record["plain"].get(question):
        return "not by `generate`"
    replies = _of(record["replies"], question)
    faults = [fault for fault in (*replies, *_of(record["searches"], question)) if fault not in ("same", "")]
    if not faults:
        return "same" if question == "text" or record["image matters"] else "same, whatever the image"
    return "refused" if all(fault.startswith("refused") for fault in faults) else "different"


def differs(record: Record) -> bool:
    """Returns whether a kind of question is answered with other tokens, or not at all without a reason."""
    return any(cell(record, question) == "different" for question in QUESTIONS)


def _of(found: Mapping[str, str], question: str) -> list[str]:
    """Returns what was found for one kind of question: `image, first`, or `quick, image`."""
    return [fault for name, fault in found.items() if question in name.split(", ")]
