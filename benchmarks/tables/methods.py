"""Tables of all searches and formats, from `methods.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atomthink_plugin.accuracy_stats import mcnemar
from benchmarks.tables.results import Record, grid, load, p_value, percent, same_run, source

CLAIMS = (
    ("best_of_n", "beam", "AtomThink, first version: best-of-N above beam search on MathVista's mathematics"),
    ("stage_beam, stages", "best_of_n, stages", "LLaVA-CoT: stage beam above best-of-N"),
    ("swires, stages", "stage_beam, stages", "LLaVA-CoT: retracing above the stage beam"),
    ("mcts", "quick", "Marco-o1: tree search by the policy's confidence above one chain"),
    ("mcts, 64 tokens", "mcts", "Marco-o1: mini-steps of 64 tokens below steps in English, above in Chinese"),
    (
        "mcts, 32 tokens",
        "mcts, 64 tokens",
        "Marco-o1: mini-steps of 32 tokens below those of 64 in English, above in Chinese",
    ),
    ("reason_summarise, thoughts", "quick, thoughts", "Insight-V: reasoning and summary above one chain"),
    ("two_stage", "quick", "Multimodal-CoT: rationale and answer in two inferences above both in one"),
    ("two_stage, answer first in one reply", "quick", "Multimodal-CoT: in one inference, both orders equal"),
    ("two_stage, blind", "two_stage", "Multimodal-CoT: without the image below"),
    ("judge_best_of_n", "quick", "o1 patterns: best-of-8 by a judge about equal to one reply"),
    ("stepwise_bon", "judge_best_of_n", "o1 patterns: step-wise best-of-N far below best-of-N"),
    ("self_refine", "quick", "o1 patterns: self-refinement far below one reply"),
    ("workflow", "quick", "o1 patterns: an agent workflow above one reply"),
    ("quick, few_shot", "quick", "Medprompt: solved examples above none"),
    ("shuffle_vote", "quick", "Medprompt: a vote over shuffled options above one reply"),
    ("zero_shot_cot", "direct", "zero-shot CoT: far above a direct answer"),
    ("least_to_most", "quick", "least-to-most: sub-questions above one chain"),
    ("complex_vote", "majority", "complexity-based prompting: the vote of the longest chains above that of all"),
    ("adaptive_majority", "majority", "Adaptive-Consistency: as accurate as a full vote, for fewer tokens"),
    ("refined_best_of_n", "best_of_n", "GM-PRM: refined best-of-N above best-of-N"),
    ("dvts", "beam", "Beeching et al.: diverse subtrees above beam search at large budgets, below at small ones"),
    ("particle_filter", "beam", "Puri et al.: particle filtering above beam search"),
    ("lookahead", "beam", "Snell et al.: lookahead below beam search at equal budgets"),
    ("annealed_beam", "beam", "PRM-BAS: a beam that narrows above a constant one"),
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
                f"{row['extra_tokens_per_question']:,.0f}",
                f"{row['prm_calls_per_question']:.1f}",
                f"{row['cpu_seconds_per_question']:.2f}",
                without_answer(row),
            )
        )
    headings = (
        "method", "settings", "policy", "accuracy, %", "95 % interval", "won, lost", "p", "tokens/q", "extra/q",
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
            ours, theirs = on_shared(rows[first], rows[second])
            shares = percent(sum(ours) / len(ours)), percent(sum(theirs) / len(theirs))
            cells.append((claim, first, second, *shares, f"+{won} -{lost}", p_value(p)))
    headings = ("published", "method", "compared with", "accuracy, %", "the other's", "won, lost", "p")
    return grid(headings, cells, left=3) + same_run("methods")


def compared(row: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[int, int, float]:
    """Returns how often only one of two rows is right, on the questions of both, and McNemar's p-value."""
    ours, theirs = on_shared(row, other)
    pairs = list(zip(ours, theirs, strict=True))
    won, lost = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    return won, lost, mcnemar(ours, theirs)


def on_shared(row: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[list[bool], list[bool]]:
    """Returns the verdicts of two rows on the questions that both have."""
    shared = min(row["questions"], other["questions"])
    ours, theirs = ([verdict == "1" for verdict in one["right"][:shared]] for one in (row, other))
    return ours, theirs
