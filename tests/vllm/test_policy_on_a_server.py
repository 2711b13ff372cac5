"""The openai policy on a real vLLM server: against transformers, its prefix cache, and a server that dies."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from typing import Any

from atomthink_plugin.api import Node, Outcome, Result, Usage
from atomthink_plugin.config import plan
from atomthink_plugin.model_adapters.tiny import TINY_ARGUMENTS
from atomthink_plugin.runtime.build import build
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.tasks.demo.engine_questions import engine_questions
from atomthink_plugin.tasks.demo.questions import held_out
from tests.openai_server import Body, parts_of
from tests.vllm.test_policy_in_process import long
from tests.vllm.vllm_server import PATIENCE, VllmServer, server_is_up

LIMITS = {"step_tokens": 48, "max_new_tokens": 512, "max_steps": 16}


def served(server: VllmServer, **arguments: Any) -> Runner:
    typed = {"pretrained": str(server.folder), "base_url": server.url, **LIMITS, **arguments}
    return replace(build(plan("openai", typed)), trees=True)


def texts(results: list[Result]) -> list[str]:
    assert all(isinstance(result, Outcome) for result in results), results
    return [result.text for result in results if isinstance(result, Outcome)]


def nodes(result: Result) -> tuple[Node, ...]:
    assert isinstance(result, Outcome), result
    return result.nodes


def test_quick_thinking_is_that_of_transformers(policy_server: VllmServer, posted: list[Body]) -> None:
    questions = engine_questions(held_out(12))
    local = replace(
        build(plan("transformers", {"pretrained": TINY_ARGUMENTS["pretrained"], "device": "cpu", **LIMITS})), trees=True
    )
    pairs = list(zip(served(policy_server).run(questions), local.run(questions), strict=True))
    # What is drawn again after a rejected step is sampled, and vLLM's random numbers are its own.
    greedy = [pair for pair in pairs if not any(node.rejected for one in pair for node in nodes(one))]
    assert len(greedy) > 6
    assert texts([ours for ours, _ in greedy]) == texts([theirs for _, theirs in greedy])
    pictures = [part for body in posted for part in parts_of(body) if part["type"] == "image_url"]
    travelled = Counter(part["uuid"] for part in pictures if part["image_url"] is not None)
    assert set(travelled.values()) == {1}
    assert len(pictures) > 3 * len(questions)


def test_a_beam_search_with_an_image_reads_four_fifths_of_its_prompts_from_the_cache(policy_server: VllmServer) -> None:
    runner = served(policy_server, thinking="slow", search="beam", scorer="confidence", max_steps=6)
    before = policy_server.prefix_cache()
    results = runner.run([long(question) for question in engine_questions(held_out(6, seed=31))])
    asked, found = (after - start for after, start in zip(policy_server.prefix_cache(), before, strict=True))
    usage = [result.usage for result in results]
    told = sum(one.cached for one in usage) / sum(one.cached + one.prefilled for one in usage)
    print(f"cached share: {told:.3f} as told in replies, {found / asked:.3f} by the server's own count")
    assert told >= 0.8
    assert found / asked >= 0.8


def test_a_run_outlives_its_server(policy_server: VllmServer) -> None:
    """Killed in the middle and started again: the run waits, and every question is answered once."""
    questions = engine_questions(held_out(40, seed=5))
    runner = served(policy_server, concurrency=4, max_retries=1, wait=PATIENCE)
    expected = texts(runner.run(questions))
    finished: list[Result] = []
    killed = threading.Event()

    def kill_and_restart() -> None:
        policy_server.kill()
        killed.set()
        policy_server.restart()

    def on_finished(result: Result, spent: Usage | None) -> None:
        finished.append(result)
        if len(finished) == 10:
            threading.Thread(target=kill_and_restart).start()
            killed.wait()

    results = runner.run(questions, on_finished)
    server_is_up(policy_server)
    assert len(finished) == len(questions)
    assert texts(results) == expected


def test_reasoning_and_summary_have_a_server_each(policy_server: VllmServer, summary_server: VllmServer) -> None:
    """Each server refuses the other's model name. Reply limits exceed the context of the summary server."""
    runner = served(
        policy_server,
        thinking="slow",
        search="reason_summarise",
        n=2,
        temperature=0.7,
        format_thoughts_tokens=64,
        reply_tokens=4096,
        summary_pretrained="summary",
        summary_base_url=summary_server.url,
    )
    read = [server.prefix_cache()[0] for server in (policy_server, summary_server)]
    results = runner.run(engine_questions(held_out(6, seed=7)))
    assert all(isinstance(result, Outcome) for result in results), results
    for result in results:
        assert Counter(node.role for node in nodes(result) if node.use == "summary") == {"summary": 1}
        thoughts = [node for node in nodes(result) if not node.use]
        assert {(node.unit, node.role) for node in thoughts} == {("thoughts", "policy")}
        assert all(node.text.startswith("<thoughts> ") for node in thoughts)
        assert result.usage.policy_calls == 2 + (len(thoughts) > 1) + 1
    for server, before in zip((policy_server, summary_server), read, strict=True):
        assert server.prefix_cache()[0] > before
