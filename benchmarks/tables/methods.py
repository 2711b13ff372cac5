"""Tables of all searches and formats, from `methods.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atomthink_plugin.accuracy_stats import mcnemar
from benchmarks.tables.results import Record, grid, load, p_value, percent, same_run, source

CLAIMS = (
    ("stage_beam, stages", "best_of_n, stages", "LLaVA-CoT: stage beam above best-of-N"),
    ("swires, stages", "stage_beam, stages", "LLaVA-CoT: retracing above the stage beam"),
    ("mcts", "quick", "Marco-o1: a tree search with the policy's confidence above one chain"),
    ("mcts, 64 tokens", "mcts", "Marco-o1: steps above mini-steps of 64 tokens in English, below in Chinese"),
    ("mcts, 32 tokens", "mcts, 64 tokens", "Marco-o1: mini-steps of 64 tokens above 32 in English, below in Chinese"),
    ("reason_summarise, thoughts", "quick, thoughts", "Insight-V: reasoning and summary above one chain"),
    ("two_stage", "quick", "Multimodal-CoT: rationale and answer in two stages above one"),
    ("two_stage, answer first", "two_stage", "Multimodal-CoT: rationale first far above answer first"),
    ("judge_best_of_n", "quick", "o1 patterns: best-of-N by a judge above one reply"),
    ("stepwise_bon", "judge_best_of_n", "o1 patterns: step-wise best-of-N below best-of-N"),
    ("self_refine", "quick", "o1 patterns: self-refinement at or below one reply"),
    ("workflow", "quick", "o1 patterns: an agent workflow above one reply"),
    ("quick, few_shot", "quick", "Medprompt: near examples above none"),
    ("shuffle_vote", "majority", "Medprompt: shuffled options above a plain vote"),
    ("complex_vote", "majority", "complexity-based prompting: the longest chains' vote above all"),
    ("dvts", "beam", "Hugging Face: diverse subtrees above beam search at large budgets"),
    ("particle_filter", "beam", "particle filtering above beam search"),
    ("beam", "best_of_n", "AtomThink: step-wise search above best-of-N"),
)
"""Pairs of rows that a publication orders, and what it says: the first above or below the second."""


def methods() -> str:
    record = load("methods")
    baseline = next(row for row in record["rows"] if row["thinking"] == record["baseline"])
    cells = []
    for row in record["rows"]:
        (won, lost, p), (low, high) = compared(row, baseline), row["interval"]
        first = row is baseline
        cells.append(
            (
                row["thinking"],
                settings(row),
                row["policy"],
                percent(row["accuracy"])
                + ("" if row["questions"] == record["questions"] else f" of {row['questions']}"),
                f"{percent(low)} to {percent(high)}",
                "" if first else f"+{won} -{lost}",
                "" if first else p_value(p),
                f"{row['tokens_per_question']:,.0f}",
                f"{row['aside_tokens_per_question']:,.0f}",
                f"{row['prm_calls_per_question']:.1f}",
                f"{row['cpu_seconds_per_question']:.2f}",
                without_answer(row),
            )
        )
    headings = (
        "method", "settings", "policy", "accuracy, %", "95 % interval", "won, lost", "p", "tokens/q", "aside/q",
        "PRM calls/q", "CPU s/q", "no answer, %",
    )  # fmt: skip
    return grid(headings, cells, left=3) + source("methods", record)


def settings(row: Record) -> str:
    """Returns the arguments of a row besides those that its name says."""
    arguments = {name: value for name, value in row["arguments"].items() if name not in ("thinking", "search")}
    return f"`{','.join(f'{name}={value}' for name, value in arguments.items())}`" if arguments else ""


def without_answer(row: Record) -> str:
    count = row["failed"] + row["unanswered"]
    return percent(count / row["questions"], 0) if count else ""


def method_claims() -> str:
    rows = {row["thinking"]: row for row in load("methods")["rows"]}
    cells = []
    for first, second, claim in CLAIMS:
        if first in rows and second in rows:
            won, lost, p = compared(rows[first], rows[second])
            shares = percent(rows[first]["accuracy"]), percent(rows[second]["accuracy"])
            cells.append((claim, first, second, *shares, f"+{won} -{lost}", p_value(p)))
    headings = ("published", "method", "compared with", "accuracy, %", "the other's", "won, lost", "p")
    return grid(headings, cells, left=3) + same_run("methods")


def compared(row: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[int, int, float]:
    """Returns how often only one of two rows is right, on the questions of both, and McNemar's p-value."""
    shared = min(row["questions"], other["questions"])
    ours, theirs = ([verdict == "1" for verdict in one["right"][:shared]] for one in (row, other))
    pairs = list(zip(ours, theirs, strict=True))
    won, lost = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    return won, lost, mcnemar(ours, theirs)
