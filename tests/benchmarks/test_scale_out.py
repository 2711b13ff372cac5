"""The measurement of several servers, with scripted ones."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from benchmarks import scale_out
from benchmarks.fixed_latency_server import FixedLatencyServer
from benchmarks.scale_out import Way, rounds
from tests.openai_server import serve


def test_each_way_is_compared_with_the_first_one_and_a_killed_server_fails_no_question() -> None:
    with ExitStack() as stack, ExitStack() as first:
        scripts = [FixedLatencyServer(0.0, 4) for _ in range(2)]
        urls = [place.enter_context(serve(script)).url for place, script in zip((first, stack), scripts, strict=True)]
        one, both = urls[1], ";".join(urls)
        ways = [
            Way("one", {"pretrained": "scripted", "base_url": one}),
            Way("both", {"pretrained": "scripted", "base_url": both}, halfway=first.close),
        ]
        found = rounds(ways, 4, 1)
    assert [row["way"] for row in found] == ["one", "both"]
    assert [row["failed"] for row in found] == [0, 0]
    assert found[0]["requests"] == 4 * 4 * 3  # questions, paths, steps
    assert found[0]["ratio"] == 1
    assert found[1]["ratio"] == found[1]["tokens_per_second"] / found[0]["tokens_per_second"]
    assert scripts[0].most_in_flight > 0


def test_a_way_answers_other_questions_in_each_round(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def measure(way: Way, first: int, count: int) -> scale_out.Row:
        asked.extend(range(first, first + count))
        return {"way": way.name, "tokens_per_second": 1.0}

    monkeypatch.setattr(scale_out, "measure", measure)
    rounds([Way("one", {}), Way("two", {})], 10, 3)
    assert len(set(asked)) == len(asked) == 60
