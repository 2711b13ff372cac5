"""Tables of accuracy: all ways of thinking, other policies and PRMs, and the number of candidates."""

from __future__ import annotations

from atomthink_plugin.accuracy_stats import mcnemar
from benchmarks.tables.results import (
    Record,
    grid,
    load,
    p_value,
    percent,
    same_run,
    source,
)

THINKING = {
    "direct": "direct",
    "cot": "cot",
    "quick, greedy": "quick, greedy",
    "quick, T=0.5": "quick, T=0.5",
    "quick, T=1": "quick, T=1",
    "majority @8": "majority, n=8",
    "policy likelihood @8": "the likeliest of 8 (policy's own likelihood)",
    "weighted mean @8": "weighted, n=8, mean",
    "greedy search, C=3": "greedy search, C=3",
    "greedy search, C=8": "greedy search, C=8",
    "greedy search, C=8, T=1": "greedy search, C=8, T=1",
    "beam, B=2 C=3": "beam, B=2 C=3",
    "beam, B=2 C=4": "beam, B=2 C=4",
    "beam, B=2 C=3, first_final": "beam, B=2 C=3, stop=first_final",
    "best_of_n mean @8": "best_of_n, n=8, mean",
    "best_of_n min @8": "best_of_n, n=8, min",
    "best_of_n prod @8": "best_of_n, n=8, prod",
    "best_of_n last @8": "best_of_n, n=8, last",
    "best_of_n mean @16": "best_of_n, n=16, mean",
    "majority @5 (beam's tokens)": "majority, n=5 (as many tokens as beam)",
    "pass @8": "pass@8: a right path among 8",
}
"""Rows of `held_out.json` with the embedded models, and how the table names them."""

OTHERS = {
    "best_of_n mean @8, text alone": "best_of_n, n=8, mean, by a PRM of text alone",
    "best_of_n mean @8, tenfold PRM": "best_of_n, n=8, mean, by a PRM of ten times the single steps",
    "greedy search, C=8, T=1, tenfold PRM": "greedy search, C=8, T=1, by the same PRM",
    "beam, B=2 C=3, tenfold PRM": "beam, B=2 C=3, by the same PRM",
    "quick, greedy, trained on": "quick, greedy, policy trained further",
    "quick, T=1, trained on": "quick, T=1, the same policy",
    "beam, B=2 C=3, trained on": "beam, B=2 C=3, the same policy",
    "quick, greedy, own chains": "quick, greedy, policy trained on its own right chains",
    "quick, T=1, own chains": "quick, T=1, the same policy",
    "beam, B=2 C=3, own chains": "beam, B=2 C=3, the same policy",
    "quick, greedy, gold alone": "quick, greedy, policy with as many steps on gold chains",
    "quick, T=1, gold alone": "quick, T=1, the same policy",
    "beam, B=2 C=3, gold alone": "beam, B=2 C=3, the same policy",
    "quick, greedy, tenfold policy": "quick, greedy, policy of ten times the data",
    "quick, T=1, tenfold policy": "quick, T=1, the same policy",
    "beam, B=2 C=3, tenfold policy": "beam, B=2 C=3, the same policy",
}
"""Rows with other policies or PRMs."""

PAIRS = (
    ("beam, B=2 C=3", "majority @5 (beam's tokens)"),
    ("greedy search, C=8, T=1", "best_of_n mean @8"),
    ("beam, B=2 C=3, first_final", "beam, B=2 C=3"),
    ("best_of_n mean @8, text alone", "best_of_n mean @8"),
    ("best_of_n mean @8, tenfold PRM", "best_of_n mean @8"),
    ("greedy search, C=8, T=1, tenfold PRM", "greedy search, C=8, T=1"),
    ("beam, B=2 C=3, tenfold PRM", "beam, B=2 C=3"),
    ("beam, B=2 C=3, trained on", "quick, greedy, trained on"),
    ("beam, B=2 C=3, tenfold policy", "quick, greedy, tenfold policy"),
    ("quick, T=1, own chains", "quick, T=1"),
    ("quick, greedy, own chains", "quick, greedy"),
    ("beam, B=2 C=3, own chains", "beam, B=2 C=3"),
    ("quick, T=1, gold alone", "quick, T=1, own chains"),
    ("quick, greedy, gold alone", "quick, greedy, own chains"),
    ("beam, B=2 C=3, gold alone", "beam, B=2 C=3, own chains"),
)
"""Rows of `held_out.json` that the text compares."""

ADD = "python -m benchmarks.held_out --add --json benchmarks/results/held_out.json --other-policy NAME=DIR"

BY_N = {
    "best_of_n mean": "best_of_n, mean",
    "best_of_n prod": "best_of_n, prod",
    "best_of_n min": "best_of_n, min",
    "best_of_n last": "best_of_n, last",
    "weighted mean": "weighted, mean",
    "majority": "majority",
    "policy likelihood": "policy's own likelihood",
    "pass": "pass@N",
}


def ways_of_thinking() -> str:
    record = load("held_out")
    return accuracy_rows(record, THINKING) + source("held_out", record)


def other_models() -> str:
    record = load("held_out")
    places = sorted({(row["machine"], row["date"]) for row in record["rows"] if "machine" in row})
    added = "; ".join(f"{machine}; {date}" for machine, date in places)
    note = f"\nThe rows of the policy trained further: {record['machine']}; {record['date']}. All others: {added}.\n"
    return accuracy_rows(record, OTHERS) + f"\n`{ADD}`\n" + note


def accuracy_rows(record: Record, names: dict[str, str]) -> str:
    rows = {row["thinking"]: row for row in record["rows"]}
    if missing := names.keys() - rows.keys():
        raise SystemExit(f"held_out.json lacks {', '.join(sorted(missing))}: measure them with `held_out --add`")
    cells = []
    for key, name in names.items():
        row, (low, high) = rows[key], rows[key]["interval"]
        pair = row["against_baseline"]
        baseline = key == record["baseline"]
        cells.append(
            (
                name,
                percent(row["accuracy"]),
                f"{percent(low)} to {percent(high)}",
                "" if baseline else f"+{pair['won']} -{pair['lost']}",
                "" if baseline else p_value(pair["p"]),
                f"{row['tokens_per_question']:,.0f}",
                f"{row['prm_calls_per_question']:.1f}",
            )
        )
    headings = ("thinking", "accuracy, %", "95 % interval", "won, lost", "p", "tokens/q", "PRM calls/q")
    return grid(headings, cells)


def paired_rows() -> str:
    record = load("held_out")
    names = THINKING | whole_names()
    right = {row["thinking"]: [verdict == "1" for verdict in row["right"]] for row in record["rows"]}
    cells = []
    for first, second in PAIRS:
        verdicts = list(zip(right[first], right[second], strict=True))
        won, lost = sum(a and not b for a, b in verdicts), sum(b and not a for a, b in verdicts)
        share = percent(sum(right[first]) / len(verdicts)), percent(sum(right[second]) / len(verdicts))
        p = mcnemar(right[first], right[second])
        cells.append((names[first], names[second], *share, f"+{won} -{lost}", p_value(p)))
    headings = ("thinking", "compared with", "accuracy, %", "the other's", "won, lost", "p")
    return grid(headings, cells, left=2) + same_run("held_out")


def whole_names() -> dict[str, str]:
    """Returns the names of rows with other models that do not refer to the row above them."""
    suffixes = {
        ", text alone": ", by a PRM of text alone",
        ", tenfold PRM": ", by a PRM of ten times the single steps",
        ", trained on": ", policy trained further",
        ", own chains": ", policy trained on its own right chains",
        ", gold alone": ", policy with as many steps on gold chains",
        ", tenfold policy": ", policy of ten times the data",
    }
    return {
        key: THINKING[key.removesuffix(end)] + name
        for key in OTHERS
        for end, name in suffixes.items()
        if key.endswith(end)
    }


def by_number() -> str:
    record = load("held_out")
    accuracy = {row["thinking"]: row["accuracy"] for row in record["rows"]}
    numbers = (1, 2, 4, 8, 16)
    rows = [(name, *(percent(accuracy[f"{key} @{n}"]) for n in numbers)) for key, name in BY_N.items()]
    return grid(("accuracy, %, by N", *map(str, numbers)), rows) + same_run("held_out")
