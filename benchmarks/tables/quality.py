"""Tables of how good verdicts, step labels, PRMs and estimated abilities are, and of what a training step takes."""

from __future__ import annotations

import json

from benchmarks.tables.results import (
    ROOT,
    Record,
    grid,
    load,
    percent,
    same_run,
    source,
    with_interval,
)

PRM_REPORTS = {
    "prm-eval": ("the shipped PRM (stage 12)", "one core of an Intel Xeon"),
    "prm-mined-eval": ("after a further round on mined chains (stage 15)", "one core of an Intel Xeon"),
    "prm-text-eval": ("of text alone (stage 96)", "one core of an AMD EPYC"),
    "prm-tenfold-eval": ("after ten times the single steps", "one NVIDIA H200, its last stage on a CPU"),
}
"""Reports of `atomthink prm eval` in `training/tiny/logs`, with what trained the PRM."""

PRM_REPORTS_DATE = "2026-11-26"


def verdict_agreement() -> str:
    record = load("verdict_agreement")
    rows = []
    for name, file in record["files"].items():
        benchmark = {"mathvista": "MathVista", "mathvision": "MATH-Vision"}[name.split("/")[0]]
        for group, parts in file["agreement"].items():
            kind, _, value = group.partition(" ")
            if kind in ("total", "type", "model"):
                known = {"total": "all", "type": f"answers: {value}", "model": f"model {value}"}[kind]
                rows.append((benchmark, known, *agreement(parts["all"]), *agreement(parts["supported"])))
    headings = (
        "benchmark", "responses", "number", "agree, %", "false, missed", "supported", "agree, %", "false, missed"
    )  # fmt: skip
    note = f"\nVersion {record['scorer_version']} of the rules.\n"
    return grid(headings, rows, left=2) + note + source("verdict_agreement", record)


def agreement(part: Record) -> tuple[str, str, str]:
    return f"{part['rows']:,}", percent(part["share"]), f"{part['false_credit']}, {part['missed_credit']}"


def label_quality() -> str:
    record = load("label_quality")
    rows = [
        (
            row["way"],
            row["n"] or "",
            percent(row["first_error_accuracy"]),
            percent(row["precision"]),
            percent(row["recall"]),
            f"{row['rollouts']:,}",
            f"{row['cpu_seconds']:.0f}" if row["cpu_seconds"] else "",
        )
        for row in record["rows"]
    ]
    headings = ("labels", "N", "first error found, %", "precision, %", "recall, %", "rollouts", "CPU s")
    return grid(headings, rows) + source("label_quality", record)


def omega_savings() -> str:
    record = load("label_quality")
    rows = []
    for way, points in record["omega_at_equal_accuracy"].items():
        for point in points:
            share = "not reached" if point["share"] is None else percent(point["share"], 0)
            rows.append((way, point["n"], percent(point["accuracy"]), f"{point['rollouts']:,}", share))
    headings = ("as accurate as", "N", "first error found, %", "its rollouts", "rollouts of omega, % of these")
    return grid(headings, rows) + same_run("label_quality")


def prm_quality() -> str:
    rows = []
    for name, (title, machine) in PRM_REPORTS.items():
        report = json.loads((ROOT / "training" / "tiny" / "logs" / f"{name}.json").read_text())
        found, steps, ranking = report["first_error"]["all"], report["steps"]["all"], report["ranking"]
        f1 = found["f1"]
        rows.append(
            (
                title,
                f"{percent(f1['value'])} [{percent(f1['low'])}, {percent(f1['high'])}]",
                percent(found["wrong"]["value"]),
                percent(found["right"]["value"]),
                percent(steps["macro_f1"]["value"]),
                percent(ranking["pooled"]["value"]),
                percent(ranking["within"]["value"]),
                machine,
            )
        )
    headings = (
        "PRM", "first-error F1", "with an error", "without", "macro-F1", "AUC", "AUC within questions", "trained on"
    )  # fmt: skip
    command = "\n```bash\natomthink train tiny --out DIR\n```\n"
    note = f"{command}\n{PRM_REPORTS_DATE}; `training/tiny/logs/*-eval.json`\n"
    return grid(headings, rows) + note


def gpu_training() -> str:
    record = load("gpu_training")
    rows = []
    for name, title in (("plain", "without gradient checkpointing"), ("checkpointing", "with gradient checkpointing")):
        one = record[name]
        rows.append(
            (
                title,
                f"{one['seconds per step']:.2f}",
                f"{one['tokens per second']:,.0f}",
                f"{one['GiB']:.1f}",
                percent(one["share of the device's arithmetic"], 0),
            )
        )
    note = f"\n{record['rows']} chains with an image each, {record['tokens']:,} tokens in all.\n"
    headings = ("LoRA step", "s", "tokens/s", "GiB", "share of a large matrix product's speed, %")
    return grid(headings, rows) + note + source("gpu_training", record)


def atomic_capability() -> str:
    record = load("atomic_capability")
    rows = []
    for result in record["results"]:
        if result["taxonomy"] == "operations":
            for ability in result["abilities"]:
                shares = percent(ability["true"], 0), percent(ability["weighted"], 0)
                estimates = (with_interval(ability[name]) for name in ("quality", "utilisation", "gain"))
                rows.append((result["policy"], ability["name"], *shares, *estimates, ability["records"]))
    headings = ("policy", "ability", "true, %", "weighted, %", "quality, %", "utilisation, %", "gain, %", "steps")
    return grid(headings, rows, left=2) + source("atomic_capability", record)


def capability_order() -> str:
    record = load("atomic_capability")
    rows = []
    for result in record["results"]:
        taus = (f"{result['kendall_tau'][name]:.2f}" for name in ("quality", "utilisation", "gain"))
        count = f"{len(result['abilities'])} ({result['taxonomy']})"
        rows.append((result["policy"], count, *taus))
    return grid(("policy", "abilities", "quality", "utilisation", "gain"), rows, left=2) + same_run("atomic_capability")
