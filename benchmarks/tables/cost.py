"""Tables of what a search, the engine, the journal and a served PRM cost."""

from __future__ import annotations

from typing import Final

from benchmarks.tables.results import grid, load, percent, source


def search_cost() -> str:
    record = load("search_cost")
    rows = []
    for name, setting in record.items():
        for way in ("ours", "published way"):
            one = setting[way]
            rows.append(
                (
                    name if way == "ours" else "",
                    way,
                    f"{one['images_policy']:.1f}",
                    f"{one['prefilled_over_distinct_policy']:.2f}",
                    f"{one['prefilled_over_distinct_prm']:.2f}",
                    f"{one['cpu_seconds_per_question']:.2f}",
                    f"{one['seconds_per_question']:.2f}",
                )
            )
        ratios = setting["cpu_time_ratio"], setting["wall_time_ratio"]
        rows.append(("", "ratio", "", "", "", *(f"**{ratio:.1f}**" for ratio in ratios)))
    headings = (
        "model",
        "way",
        "images encoded",
        "policy's prompt tokens / distinct",
        "PRM's tokens / distinct",
        "CPU s/q",
        "wall s/q",
    )
    return grid(headings, rows, left=2) + source("search_cost", next(iter(record.values())))


_MODELS: Final = {"demo": "demo model", "llava": "random LLaVA, 576 image tokens"}


def engine_change() -> str:
    record = load("engine_change")
    rows = []
    for model, name in _MODELS.items():
        one = record[model]
        for code in ("before", "after"):
            numbers = one[code]
            rows.append(
                (
                    name if code == "before" else "",
                    one["in_flight"],
                    code,
                    f"{numbers['cpu_seconds_per_question']:.3f}",
                    f"{numbers['peak_mib']:,.0f}",
                    f"**{one['cpu_time_ratio']:.2f}**" if code == "after" else "",
                )
            )
    headings = ("model", "in flight", "code", "CPU s/q", "MiB at most", "ratio")
    return grid(headings, rows, left=1) + source("engine_change", record)


def prefix_memory() -> str:
    record = load("prefix_memory")
    rows = []
    for model, name in _MODELS.items():
        for step in ("first", "last"):
            one = record[model][step]
            for code in ("before", "after"):
                numbers = one[code]
                rows.append(
                    (
                        name if (step, code) == ("first", "before") else "",
                        step if code == "before" else "",
                        code,
                        f"{numbers['prompt_tokens']:,}",
                        f"{numbers['prompt_bytes'] / 2**20:.2f}",
                        f"{numbers['held_bytes'] / 2**20:.2f}",
                        f"**{one['prompt_ratio']:.2f}**" if code == "after" else "",
                    )
                )
    headings = ("model", "step", "code", "prompt tokens", "MiB of prompts", "MiB of all", "ratio")
    return grid(headings, rows, left=3) + source("prefix_memory", record)


def gpu_search_cost() -> str:
    record = load("gpu_search_cost")
    rows = [
        (
            one["way"],
            one["lengths"],
            one["in_flight"],
            "yes" if one["cudnn_attention"] else "no",
            one["questions"],
            f"{one['seconds_per_question']:.1f}",
            f"{one['tokens_per_second']:.0f}",
            f"{one['peak_gib']:.1f}",
            f"{one['speedup']:.1f}" if "speedup" in one else "",
        )
        for one in record["searches"]
    ]
    headings = (
        "way", "step lengths", "in flight", "cuDNN attention", "questions", "s/q", "tokens/s", "GiB at most", "speed-up"
    )  # fmt: skip
    step = record["decode_step"]
    speed = f"{step['weights_gb']:.1f} GB at {step['bandwidth_gb_per_second']:,.0f} GB/s"
    decode = (
        f"\nA decode step of {step['rows']} rows takes {step['step_ms']:.1f} ms. Reading the weights once ({speed}) "
        f"takes {step['floor_ms']:.1f} ms, which is {percent(step['share_of_floor'], 0)} % of that.\n"
    )
    return grid(headings, rows, left=2) + decode + source("gpu_search_cost", record)


def prm_routes() -> str:
    record = load("prm_routes")
    rows = [
        (
            row["route"],
            f"`POST {row['place']}`",
            f"{row['prompt_tokens']:,}",
            f"{percent(row['cached'] / row['prompt_tokens'])}",
        )
        for row in record["rows"]
    ]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    note = f"\n{versions}; blocks of {record['block_size']} tokens.\n"
    headings = ("how the PRM is read", "request", "prompt tokens", "from the cache, %")
    return grid(headings, rows, left=2) + note + source("prm_routes", record)


def vllm_throughput() -> str:
    record = load("vllm_throughput")
    rows = [
        (
            name,
            f"{case['search_tokens_per_second']:,.0f}",
            f"{case['plain_tokens_per_second']:,.0f}",
            f"**{case['ratio']:.2f}**",
            f"{min(case['ratios']):.2f} to {max(case['ratios']):.2f}",
            f"**{case['cpu_ratio']:.2f}**",
            percent(case["equal_steps"]),
        )
        for name, case in record["cases"].items()
    ]
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    note = (
        f"\n{versions}; {record['in_flight']} questions in flight, {record['rounds']} rounds of {record['questions']} "
        "questions, medians.\n"
    )
    headings = (
        "samples", "search, tokens/s", "plain vLLM, tokens/s", "ratio", "rounds", "ratio of CPU time", "equal steps, %"
    )  # fmt: skip
    return grid(headings, rows) + note + source("vllm_throughput", record)


def scale_out() -> str:
    record = load("scale_out")
    rows = [
        (
            row["way"],
            f"{row['requests']:.0f}",
            f"{row['failed']:.0f}",
            f"{row['tokens_per_second']:.0f}",
            f"{row['ratio']:.2f}",
            f"{row['client_cpu_ms_per_request']:.1f}",
            percent(row["cached"], 0),
        )
        for part in ("stand_ins", "servers", "engines")
        for row in record[part]["ways"]
    ]
    headings = (
        "servers", "requests", "failed", "tokens/s", "ratio", "client's CPU ms/request", "from the cache, %"
    )  # fmt: skip
    return grid(headings, rows) + source("scale_out", record["servers"])


def engine_overhead() -> str:
    record = load("engine_overhead")
    rows = [
        (
            name,
            f"{row['policy_calls'] / record['questions']:.0f}",
            f"{1000 * row['cpu_seconds'] / row['policy_calls']:.2f}",
            f"{1000 * row['cpu_seconds'] / record['questions']:.1f}",
        )
        for name, row in record.items()
        if isinstance(row, dict)
    ]
    headings = ("run", "candidate steps/q", "CPU ms per candidate step", "CPU ms/q")
    return grid(headings, rows) + source("engine_overhead", record)


def journal_cost() -> str:
    record = load("journal_cost")
    parts = ("records", "thumbnails", "answers")
    rows = []
    for name, row in record.items():
        if isinstance(row, dict):
            shares = [row[f"{part}_percent"] for part in parts]
            cells = [f"{share:.1f}" for share in (*shares, sum(shares))]
            rows.append((name, f"{row['cpu_ms_per_question']:.0f}", *cells))
    headings = ("search", "CPU ms/q", "finished questions, %", "thumbnails, %", "models' answers, %", "all, %")
    return grid(headings, rows) + source("journal_cost", record)
