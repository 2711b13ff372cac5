"""Does one run keep several servers busy, and does a question find its own tokens in their prefix caches?

    python -m benchmarks.scale_out --json benchmarks/results/scale_out.json
    python -m benchmarks.scale_out --parts servers engines --json benchmarks/results/scale_out.json

`stand_ins`, the default part, measures the client alone. Its servers (`fixed_latency_server.py`) compute nothing and
take a fixed time per token, so they do not share the processor as models would: tokens per second have to grow with the
number of servers until the client's processor time per request is the limit. In the last way one of two servers is
killed when half of the questions are answered, and stays away: the other one has to answer the rest.

The parts `servers` and `engines` need vLLM in the environment (`.ci/vllm/run` installs one for CPUs). Real servers with
the embedded policy answer questions of the demo: one server and two servers; and one server with
`--data-parallel-size 2`, whose engine is chosen by vLLM or by the client. All of them share the processors of one
machine, so their tokens per second cannot show that two GPUs are faster than one. They show what is lost by dividing a
run, and the servers' own counters show the share of prompt tokens that came from a prefix cache.

Each way answers other questions in each round, so that none profits from the cache that another one filled. Each part
of the results file has the machine and the date of its last run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from atomthink_plugin.api import Failure, Result, Usage
from atomthink_plugin.model_adapters.tiny import WEIGHTS
from atomthink_plugin.named_models import plan_for
from atomthink_plugin.runtime.build import build
from atomthink_plugin.runtime.speed import RunMeter, models_of
from atomthink_plugin.tasks.demo.engine_questions import engine_questions
from atomthink_plugin.tasks.demo.questions import held_out
from benchmarks.provenance import provenance
from tests.vllm.vllm_server import VllmServer, server_is_up, starting

CLIENTS = (1, 2, 4)
"""Numbers of stand-ins for servers."""

POLICY = WEIGHTS / "policy"
SECONDS_PER_TOKEN, SLOTS = 0.05, 4
"""Of a stand-in: the time that it takes, and how many requests it answers at the same time."""

OPTIONS = ("--enable-prompt-tokens-details", "--generation-config", "vllm", "--max-model-len", "2048")

_WARM = 190
"""Questions from here on warm a server up."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Way:
    """One way of serving.

    Attributes:
        name: For the table.
        arguments: Those of the policy.
        counters: Returns how many prompt tokens the servers looked up in their prefix caches so far, and found there.
        halfway: Called when half of the questions are answered.
    """

    name: str
    arguments: dict[str, Any]
    counters: Callable[[], tuple[int, int]] = lambda: (0, 0)
    halfway: Callable[[], None] = lambda: None


def measure(way: Way, first: int, count: int) -> Row:
    """Answers the demo questions `first` to `first + count` and returns what it took."""
    typed = {"thinking": "slow", "search": "majority", "n": 4, "journal": "off", "step_tokens": 48, "max_steps": 16}
    runner = build(plan_for("atomthink_openai", {**typed, "concurrency": count, **way.arguments}))
    questions = engine_questions(held_out(first + count)[first:])
    before, processor = way.counters(), time.process_time()
    meter, done = RunMeter(models_of(runner)), count_to(count // 2, way.halfway)

    def finished(result: Result, spent: Usage | None) -> None:
        meter.finished(result, spent)
        done()

    results = runner.run(questions, finished)
    speed, processor = meter.speed(), time.process_time() - processor
    looked_up, found = (now - then for now, then in zip(way.counters(), before, strict=True))
    policy = speed.models["policy"]
    return {
        "way": way.name,
        "failed": sum(isinstance(result, Failure) for result in results),
        "tokens": speed.sampled,
        "requests": policy.work.requests,
        "seconds": speed.seconds,
        "tokens_per_second": speed.sampled / speed.seconds,
        "client_cpu_ms_per_request": 1000 * processor / policy.work.requests,
        "rows_in_flight": policy.mean_rows,
        "cached": found / looked_up if looked_up else None,
    }


def count_to(number: int, reached: Callable[[], None]) -> Callable[[], None]:
    """Returns a function that calls `reached` when it is called for the `number`th time."""
    calls = itertools.count(1)

    def call() -> None:
        if next(calls) == number:
            reached()

    return call


def rounds(ways: Sequence[Way], count: int, times: int) -> list[Row]:
    """Measures each way in each round; returns the medians, with the ratio to the first way in the same round."""
    found: dict[str, list[Row]] = {way.name: [] for way in ways}
    for number in range(times):
        for at, way in enumerate(ways):
            start = (number * len(ways) + at) * count % (_WARM - count)
            found[way.name].append(measure(way, start, count))
    first = found[ways[0].name]
    summary = []
    for rows in found.values():
        ratios = [row["tokens_per_second"] / base["tokens_per_second"] for row, base in zip(rows, first, strict=True)]
        numbers = {name for name, value in rows[0].items() if isinstance(value, int | float)}
        medians = {name: statistics.median(row[name] for row in rows) for name in numbers}
        summary.append({**rows[0], **medians, "ratio": statistics.median(ratios), "ratios": ratios})
    return summary


def fixed_latency(count: int, times: int) -> list[Row]:
    """Measures the client with stand-ins for servers."""
    with ExitStack() as stack:
        servers = [stack.enter_context(stand_in()) for _ in range(max(CLIENTS))]

        def way(name: str, number: int, halfway: Callable[[], None] = lambda: None) -> Way:
            urls = ";".join(server.url for server in servers[:number])
            return Way(name, {"pretrained": "scripted", "base_url": urls}, halfway=halfway)

        ways = [way(f"{number} x fixed latency", number) for number in CLIENTS]
        killed = way("2 x fixed latency, one is killed", 2, servers[1].process.kill)
        rows, (lonely,) = rounds(ways, count, times), rounds([killed], count, 1)
        return [*rows, {**lonely, "ratio": lonely["tokens_per_second"] / rows[0]["tokens_per_second"]}]


@dataclass(frozen=True)
class StandIn:
    """A running server of `fixed_latency_server.py`."""

    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """Starts such a server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ("--seconds-per-token", str(SECONDS_PER_TOKEN), "--slots", str(SLOTS))
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.fixed_latency_server", str(port), *options])
    try:
        url = f"http://127.0.0.1:{port}/v1"
        while not _answers(f"{url}/models"):
            if process.poll() is not None:
                raise RuntimeError(f"the server of port {port} ended with {process.returncode}")
            time.sleep(0.1)
        yield StandIn(url, process)
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


def separate_servers(count: int, times: int) -> list[Row]:
    """Measures one and two vLLM servers with the embedded policy."""
    with starting(POLICY, *OPTIONS) as one, starting(POLICY, *OPTIONS) as other:
        return warm_rounds([vllm_way("1 vLLM server", one), vllm_way("2 vLLM servers", one, other)], count, times)


def data_parallel(count: int, times: int) -> list[Row]:
    """Measures one vLLM server with two engines."""
    with starting(POLICY, *OPTIONS, "--data-parallel-size", "2") as server:
        ways = [
            vllm_way("2 engines, chosen by vLLM", server),
            vllm_way("2 engines, chosen by the client", server, data_parallel_size=2),
        ]
        return warm_rounds(ways, count, times)


def vllm_way(name: str, *servers: VllmServer, **arguments: Any) -> Way:
    """Waits until the servers are up and returns the way of serving."""
    for server in servers:
        server_is_up(server)

    def counters() -> tuple[int, int]:
        counts = [server.prefix_cache() for server in servers]
        return sum(looked_up for looked_up, _ in counts), sum(found for _, found in counts)

    urls = ";".join(server.url for server in servers)
    return Way(name, {"pretrained": str(POLICY), "base_url": urls, **arguments}, counters)


def warm_rounds(ways: Sequence[Way], count: int, times: int) -> list[Row]:
    """As `rounds`, after a few questions: the first requests of a server are slow."""
    for way in ways:
        measure(way, _WARM, 4)
    return rounds(ways, count, times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=("stand_ins", "servers", "engines"), default=["stand_ins"])
    parser.add_argument("--questions", type=int, default=24, help="questions of each way and round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    parts = {"stand_ins": fixed_latency, "servers": separate_servers, "engines": data_parallel}
    for name in options.parts:
        rows = parts[name](options.questions, options.rounds)
        Console(width=120).print(_table(rows))
        if options.json is not None:  # at once: the next part may fail
            earlier = json.loads(options.json.read_text()) if options.json.exists() else {}
            options.json.write_text(json.dumps(earlier | {name: {**provenance(), "ways": rows}}, indent=1) + "\n")


def _table(rows: Sequence[Row]) -> Table:
    table = Table("way", "requests", "failed", "tokens/s", "ratio", "rows in flight", "client CPU ms/request", "cached")
    for row in rows:
        cells = [f"{row[name]:.1f}" for name in ("tokens_per_second", "ratio", "rows_in_flight")]
        cached = "" if row["cached"] is None else f"{row['cached']:.1%}"
        counts = f"{row['requests']:.0f}", f"{row['failed']:.0f}"
        table.add_row(row["way"], *counts, *cells, f"{row['client_cpu_ms_per_request']:.1f}", cached)
    return table


if __name__ == "__main__":
    main()
