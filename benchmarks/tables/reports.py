"""Tables of the demo's runs, and of the pages that show them."""

from __future__ import annotations

from benchmarks.tables.results import Record, grid, load, p_value, percent, source


def comparison() -> str:
    record = load("comparison")
    rows = []
    for row in record["rows"]:
        share, low, high = row["accuracy"]
        contrast = row["contrast"]
        difference = ("", "", "")
        if contrast is not None:
            value, lower, upper = (100 * part for part in contrast["difference"])
            won = f"+{contrast['won']} -{contrast['lost']}"
            difference = f"{value:+.1f} [{lower:+.0f}, {upper:+.0f}]", won, p_value(contrast["p"])
        costs = f"{row['tokens']:,.0f}", f"{row['prm_calls']:.1f}", f"{row['seconds']:.2f}", f"{row['latency']:.1f}"
        interval = f"{percent(share)} [{percent(low, 0)}, {percent(high, 0)}]"
        rows.append((row["run"], row["thinking"], interval, *difference, *costs))
    headings = (
        "run",
        "thinking",
        "accuracy, %",
        "minus quick, points",
        "won, lost",
        "p",
        "tokens/q",
        "PRM calls/q",
        "s/q",
        "latency, s",
    )
    return grid(headings, rows, left=2) + source("comparison", record)


def scaling() -> str:
    record = load("scaling")
    points: dict[str, dict[int, Record]] = {}
    for point in record["points"]:
        name = "pass@N" if point["search"] == "pass" else " ".join(filter(None, (point["search"], point["aggregate"])))
        points.setdefault(name, {})[point["n"]] = point
    numbers = sorted(points["majority"])
    rows = [
        (
            name,
            *(
                f"{percent(one[n]['accuracy'])} [{percent(one[n]['low'], 0)}, {percent(one[n]['high'], 0)}]"
                for n in numbers
            ),
        )
        for name, one in sorted(points.items())
    ]
    scored = points["best_of_n mean"]
    rows += [
        ("policy tokens/q", *(f"{scored[n]['tokens']:,.0f}" for n in numbers)),
        ("PRM calls/q", *(f"{scored[n]['prm_calls']:.1f}" for n in numbers)),
        ("estimated s/q, without a PRM", *(f"{points['majority'][n]['estimated_seconds']:.2f}" for n in numbers)),
        ("estimated s/q, with the PRM", *(f"{scored[n]['estimated_seconds']:.2f}" for n in numbers)),
    ]
    notes = "\n" + "".join(f"- {note}\n" for note in record["notes"])
    return grid(("accuracy, %, by N", *map(str, numbers)), rows) + notes + source("scaling", record)


def report_size() -> str:
    record = load("report_size")
    rows = [
        (
            f"{row['questions']:,}",
            f"{row['megabytes']:.1f}",
            f"{row['written_cpu_s']:g}",
            f"{row['first_paint_s']:.2f}",
            f"{row['first_question_s']:.2f}",
        )
        for row in record["rows"]
    ]
    headings = ("questions", "MB", "CPU s to write", "first paint, s", "first question, s")
    return grid(headings, rows, left=0) + source("report_size", record)


def score_rollouts() -> str:
    record = load("score_rollouts")
    rows = [
        (
            name,
            f"{row['candidates']:,}",
            f"{row['steps']:,}",
            f"{row['tokens_from_cache'] / (row['tokens_from_cache'] + row['tokens_read']):.0%}",
            f"{row['seconds']:.0f}",
            f"{row['cpu_seconds']:.0f}",
            f"{row['steps'] / row['cpu_seconds']:.0f}",
            f"{row['seconds_again']:.1f}",
            f"{row['cpu_seconds_again']:.1f}",
        )
        for name, row in record["rows"].items()
    ]
    headings = (
        "PRM",
        "candidates",
        "steps",
        "tokens from the cache",
        "s",
        "CPU s",
        "steps per CPU s",
        "s again",
        "CPU s again",
    )
    return grid(headings, rows) + source("score_rollouts", record)
