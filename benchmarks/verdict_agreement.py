"""Measures how often the judge-free scorer agrees with the verdict of the official pipeline.

    python -m benchmarks.verdict_agreement VERDICTS.jsonl.gz ... --json benchmarks/results/verdict_agreement.json

A file has one response per line (JSON, gzip or not), with the official verdict: `model pid response extraction
prediction true_false supported` for MathVista, `model id response model_answer correct` for MATH-Vision. The questions
are in the same folder (`*questions.jsonl`). A row without the field `supported` counts as supported.

Some official verdicts are wrong, and the scorer does not follow them:

- MathVista: the extractor answers questions itself where a response is empty, refuses, or only repeats the question;
  what is no option (`None of the above`, an echo of all options, an option `(F)` of four) becomes the nearest option;
  `(C) Yes (D) No` is read as either of the two; fractions of an integer question are cut to integers.
- MATH-Vision: `\\textbf{(C)}`, `\\text{(C)}` and `(C) 49` are not read as letters; the value of an option without its
  unit, or with it in another order, is not the option; a box on the way counts before the letter at the end.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.tasks.scoring.judges import SCORER_VERSION, judge
from atomthink_plugin.tasks.scoring.verdict import AnswerVerdict
from benchmarks.provenance import provenance

MOST_FREQUENT = 15


@dataclass(frozen=True, slots=True)
class JudgedResponse:
    """One response with the official verdict and ours."""

    model: str
    kind: str
    id: str
    supported: bool
    official: bool
    official_answer: str | None
    verdict: AnswerVerdict

    @property
    def agrees(self) -> bool:
        return self.verdict.correct == self.official


@dataclass
class Agreement:
    """The agreement of verdicts over some rows."""

    rows: int = 0
    agreed: int = 0
    false_credit: int = 0
    missed_credit: int = 0

    def add(self, row: JudgedResponse) -> None:
        self.rows += 1
        self.agreed += row.agrees
        self.false_credit += row.verdict.correct and not row.official
        self.missed_credit += row.official and not row.verdict.correct

    @property
    def share(self) -> float:
        return self.agreed / self.rows if self.rows else 0.0


def lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)


def read_questions(path: Path, key: str) -> dict[str, dict[str, Any]]:
    """Returns the questions in the folder of a verdict file by their ids."""
    files = sorted(path.parent.glob("*questions.jsonl"))
    if not files:
        raise AtomThinkError(f"no *questions.jsonl in the folder of {path}. Put the benchmark's questions there")
    return {str(question[key]): question for file in files for question in lines(file)}


def read(path: Path) -> list[JudgedResponse]:
    """Judges every response of a verdict file."""
    rows = list(lines(path))
    if not rows:
        return []
    vista = "pid" in rows[0]
    key, official, answer = ("pid", "true_false", "prediction") if vista else ("id", "correct", "model_answer")
    for name in ("model", key, "response", official):
        if name not in rows[0]:
            raise AtomThinkError(f"{path} has no field {name!r}. The docstring of this script describes a verdict file")
    questions = read_questions(path, key)
    unknown = [row[key] for row in rows if str(row[key]) not in questions]
    if unknown:
        raise AtomThinkError(f"{path} has {len(unknown)} responses to unknown questions, such as {key}={unknown[0]!r}")
    judged = []
    for row in rows:
        question = questions[str(row[key])]
        verdict = judge("mathvista" if vista else "mathvision", question, row["response"] or "")
        judged.append(
            JudgedResponse(
                row["model"],
                kind_of(question, vista),
                str(row[key]),
                bool(row.get("supported", True)),
                bool(row[official]),
                row.get(answer),
                verdict,
            )
        )
    return judged


def kind_of(question: Mapping[str, Any], vista: bool) -> str:
    if vista:
        return "choice" if question["choices"] else str(question["answer_type"])
    return "choice" if question["options"] else "free"


def tally(rows: list[JudgedResponse]) -> dict[str, dict[str, Agreement]]:
    """Returns agreement on all and on supported rows: in total, per model, per answer type and per rule."""
    table: dict[str, dict[str, Agreement]] = {}
    for row in rows:
        for name in ("total", f"model {row.model}", f"type {row.kind}", f"rule {row.verdict.rule}"):
            parts = table.setdefault(name, {"all": Agreement(), "supported": Agreement()})
            parts["all"].add(row)
            if row.supported:
                parts["supported"].add(row)
    return dict(sorted(table.items(), key=lambda item: (item[0] != "total", item[0])))


def most_frequent(rows: list[JudgedResponse]) -> list[tuple[str, int]]:
    """Returns the most frequent disagreements of supported rows, by kind of question, rule and direction."""
    return Counter(
        f"{row.kind}, rule {row.verdict.rule}: {'false' if row.verdict.correct else 'missed'} credit"
        for row in rows
        if row.supported and not row.agrees
    ).most_common(MOST_FREQUENT)


def show(console: Console, name: str, rows: list[JudgedResponse]) -> None:
    table = Table(title=name)
    for column in ("", "all", "false", "missed", "supported", "false", "missed"):
        table.add_column(column, justify="left" if not column else "right")
    for group, parts in tally(rows).items():
        cells = [
            cell
            for part in (parts["all"], parts["supported"])
            for cell in (f"{part.share:.2%} of {part.rows}", str(part.false_credit), str(part.missed_credit))
        ]
        table.add_row(group, *cells)
    console.print(table)
    for what, count in most_frequent(rows):
        console.print(f"{count:5} {what}")
    for row in [row for row in rows if row.supported and not row.agrees][:MOST_FREQUENT]:
        ours, theirs = row.verdict.normalized, row.official_answer
        console.print(f"  {row.model} {row.id}: ours {ours!r} ({row.verdict.rule}), theirs {theirs!r}", markup=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    arguments = parser.parse_args()
    report: dict[str, Any] = {**provenance(), "scorer_version": SCORER_VERSION, "files": {}}
    console = Console(width=140)
    for path in arguments.files:
        began = time.monotonic()  # CPU time would miss formulas, which another process compares
        rows = read(path)
        seconds = time.monotonic() - began
        show(console, path.name, rows)
        console.print(f"{seconds / max(1, len(rows)) * 10_000:.1f} s per 10,000 responses\n")
        report["files"][f"{path.absolute().parent.name}/{path.name}"] = {
            "seconds_per_10000": seconds / max(1, len(rows)) * 10_000,
            "agreement": {
                group: {part: {**asdict(value), "share": value.share} for part, value in parts.items()}
                for group, parts in tally(rows).items()
            },
            "disagreements": dict(most_frequent(rows)),
        }
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
