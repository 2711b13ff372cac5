"""An interrupted question is resumed from the logged model answers."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import math
import random
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path as FilePath
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.api import (
    Choice,
    Message,
    Outcome,
    Path,
    Prompt,
    Proposal,
    QuestionError,
    Sampling,
    Score,
    SearchTree,
    Step,
    Usage,
)
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.runtime import partial_log as partial
from atomthink_plugin.runtime.journal import Journal
from atomthink_plugin.runtime.partial_log import PartialLog
from atomthink_plugin.runtime.records import decode
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.searches.beam import beam
from atomthink_plugin.searches.majority import majority
from atomthink_plugin.searches.quick import quick
from atomthink_plugin.testing import ScriptedPolicy, ScriptedScorer, history_in
from tests.runtime.test_runner import QUESTIONS, SEARCHES, runner, timeless
from tests.trees import Grove, groves, question, settings

TEXTS = ["Step 1: Look.", "Step 2: Look again.", "Step 3: The final answer is: 4."]
CHAIN: dict[str, dict[str, float]] = {"\n\n".join(TEXTS[:k]): {TEXTS[k]: 1.0} for k in range(3)}
GROVE = Grove(CHAIN, {"\n\n".join(TEXTS[: k + 1]): 0.5 for k in range(3)}, {})


@contextlib.contextmanager
def opened(folder: FilePath, rank: int = 0) -> Iterator[Journal]:
    with contextlib.closing(Journal(folder, "run", {}, rank)) as journal:
        yield journal


def dies_after(calls: int) -> ScriptedPolicy:
    """A policy of the chain that ends the run after so many calls."""

    def fails(prompt: Prompt) -> None:
        if len(policy.calls) > calls:
            raise RuntimeError("killed")

    policy = ScriptedPolicy(CHAIN, fails=fails)
    return policy


def killed(folder: FilePath, calls: int, rank: int = 0) -> FilePath:
    """Runs one question until it is killed, and returns the file of its answers."""
    with opened(folder, rank) as journal, pytest.raises(RuntimeError):
        runner(GROVE, beam(1, 1), dies_after(calls), journal=journal, on_error="raise").run([question()])
    return journal.folder / f"partial_rank{rank}.jsonl"


def resumed(folder: FilePath, rank: int = 0) -> list[str]:
    """Finishes that question, and returns the histories that the policy extended."""
    policy = ScriptedPolicy(CHAIN)
    with opened(folder, rank) as journal:
        results = runner(GROVE, beam(1, 1), policy, journal=journal).run([question()])
    assert timeless(results) == timeless(runner(GROVE, beam(1, 1)).run([question()]))
    return [history for _, history, _ in policy.calls]


@pytest.mark.slow
@given(groves(), st.sampled_from(SEARCHES), st.integers(0, 60), st.integers(1, 5))
def test_no_request_is_sent_twice(
    tmp_path_factory: pytest.TempPathFactory, grove: Grove, search: Any, calls: int, concurrency: int
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    whole = ScriptedPolicy(grove.tree)
    whole_scorer = ScriptedScorer(grove.scores)
    expected = timeless(runner(grove, search, whole, scorer=whole_scorer).run(QUESTIONS[:4]))

    def dies(prompt: Prompt) -> None:
        if len(first.calls) > calls:
            raise RuntimeError("killed")

    first, second = ScriptedPolicy(grove.tree, fails=dies), ScriptedPolicy(grove.tree)
    first_scorer, second_scorer = ScriptedScorer(grove.scores), ScriptedScorer(grove.scores)
    common: dict[str, Any] = {"concurrency": concurrency, "on_error": "raise"}
    with contextlib.suppress(RuntimeError), opened(folder) as journal:
        runner(grove, search, first, scorer=first_scorer, journal=journal, **common).run(QUESTIONS[:4])
    with opened(folder) as journal:
        results = runner(grove, search, second, scorer=second_scorer, journal=journal, **common).run(QUESTIONS[:4])
    assert timeless(results) == expected
    assert Counter(first.calls[:calls]) + Counter(second.calls) == Counter(whole.calls)
    assert Counter(first_scorer.calls) + Counter(second_scorer.calls) == Counter(whole_scorer.calls)
    assert not list(folder.glob("*/partial_*"))


def test_another_process_resumes_and_finished_answers_are_dropped(tmp_path: FilePath) -> None:
    file = killed(tmp_path, 1, rank=3)
    assert resumed(tmp_path, rank=0) == [TEXTS[0], "\n\n".join(TEXTS[:2])]
    assert file.is_file()
    with opened(tmp_path, rank=3):
        pass
    assert not file.exists()


@pytest.mark.parametrize("line", [0, 1, 2, 3])
def test_only_a_damaged_answer_is_asked_again(line: int, tmp_path: FilePath) -> None:
    file = killed(tmp_path, 2)
    content = file.read_bytes().splitlines(keepends=True)
    assert len(content) == 4  # two steps, two scores
    content[line] = content[line].replace(b'"seconds":', b'"seconds":1')
    file.write_bytes(b"".join(content) + b'{"torn')
    lost = {0: [""], 2: [TEXTS[0]]}.get(line, [])
    assert resumed(tmp_path) == [*lost, "\n\n".join(TEXTS[:2])]


def test_a_failed_question_keeps_its_answers_for_the_next_run(tmp_path: FilePath) -> None:
    def away(prompt: Prompt) -> None:
        if prompt.depth == 2:
            raise QuestionError("the server was away")

    for calls in ([0, 1, 2], [2], [2]):
        policy = ScriptedPolicy(CHAIN, fails=away)
        with opened(tmp_path) as journal:
            (result,) = runner(GROVE, beam(1, 1), policy, journal=journal).run([question()])
        assert not isinstance(result, Outcome)
        assert result.usage.policy_calls == 2
        assert [len(history.split("\n\n")) if history else 0 for _, history, _ in policy.calls] == calls
    assert resumed(tmp_path) == ["\n\n".join(TEXTS[:2])]


def test_answers_are_dropped_if_a_question_fails_on_logged_answers_alone(tmp_path: FilePath) -> None:
    class Wrong(ScriptedScorer):
        async def score(self, path: Path) -> Score:
            return replace(await super().score(path), value=math.nan)

    asked = []
    for _ in range(3):
        policy = ScriptedPolicy(CHAIN)
        with opened(tmp_path) as journal:
            runner(GROVE, beam(1, 1), policy, scorer=Wrong(GROVE.scores), journal=journal).run([question()])
        asked.append(len(policy.calls))
    assert asked == [1, 0, 1]


def test_answers_are_restored_exactly(tmp_path: FilePath) -> None:
    step = Step("Step 1: \udcff \u2028 數", (3, 1, 2), -0.1 - 1e-17, "length", 2)
    answers = [Proposal((step, Step("", (), None)), Usage(1, 2, 3, 4, 5, 6, 0.1)), Score(1 / 3, Usage(score_calls=1))]
    for _ in range(2):
        log = PartialLog(tmp_path, 0, ())
        if not list(log.earlier("k")):
            for i, answer in enumerate(answers):
                log.append("k", f"{i}", float(i), answer)
        assert list(log.earlier("k")) == [(f"{i}", float(i), answer) for i, answer in enumerate(answers)]
        log.close()


def test_the_file_does_not_grow_with_the_run(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial, "_SLACK", 20_000)
    sizes = []
    log = PartialLog(tmp_path, 0, ())
    answer = Proposal((Step("Step 1: Look.", tuple(range(100))),))
    log.append("under way", "r", 0.0, answer)
    for i in range(500):
        log.append(f"q{i}", "r", 0.0, answer)
        log.finish(f"q{i}")
        sizes.append((tmp_path / "partial_rank0.jsonl").stat().st_size)
    assert 20_000 < max(sizes) < 22_000
    assert list(log.earlier("under way")) == [("r", 0.0, answer)]
    log.append("under way", "s", 1.0, answer)
    log.close()
    assert [request for request, _, _ in PartialLog(tmp_path, 0, ()).earlier("under way")] == ["r", "s"]


def test_a_run_continues_if_the_log_cannot_be_written(
    tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(file: BinaryIO, content: bytes) -> None:
        if "partial_rank" in str(file.name):
            raise OSError(errno.ENOSPC, "No space left on device")
        file.write(content)

    monkeypatch.setattr("atomthink_plugin.append_log.write_all", full)
    with opened(tmp_path) as journal:
        results = runner(GROVE, majority(3), journal=journal).run(QUESTIONS)
        assert len(journal) == len(QUESTIONS)
    assert all(isinstance(result, Outcome) for result in results)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


class Ponders(ScriptedPolicy):
    """A policy that takes a hundred seconds per step on its own clock."""

    now = 0.0

    async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        self.now += 100
        return await super().propose(prompt, n, sampling)


def test_seconds_of_earlier_runs_count(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(prompt: Prompt) -> None:
        if prompt.depth == 1:
            raise RuntimeError("killed")

    for policy in (Ponders(CHAIN, fails=dies), Ponders(CHAIN)):
        monkeypatch.setattr(partial, "time", SimpleNamespace(monotonic=lambda clock=policy: clock.now))
        limits = replace(settings(), budget_seconds=150.0)
        with contextlib.suppress(RuntimeError), opened(tmp_path) as journal:
            (result,) = Runner(policy, None, Continue(), quick(), limits, journal, on_error="raise").run([question()])
    assert [history for _, history, _ in policy.calls] == [TEXTS[0]]
    assert isinstance(result, Outcome)
    assert (result.stopped, len(result.steps), result.usage.seconds) == ("budget", 2, 200.0)


def test_answers_survive_the_deletion_of_the_folder(tmp_path: FilePath) -> None:
    def deletes(prompt: Prompt) -> None:
        if prompt.session == "q0" and prompt.depth == 1:
            shutil.rmtree(journal.folder)
        if prompt.session == "q1" and prompt.depth == 2:
            raise RuntimeError("killed")

    policy = ScriptedPolicy(CHAIN, fails=deletes)
    asked = [question(), *QUESTIONS[:2]]
    with opened(tmp_path) as journal, pytest.raises(RuntimeError):
        runner(GROVE, quick(), policy, journal=journal, on_error="raise", concurrency=1).run(asked)
    second = ScriptedPolicy(CHAIN)
    with opened(tmp_path) as journal:
        runner(GROVE, quick(), second, journal=journal).run(asked)
    assert [(name, history) for name, history, _ in second.calls] == [("q1", "\n\n".join(TEXTS[:2]))]


def test_an_answer_whose_line_break_was_cut_off_is_kept(tmp_path: FilePath) -> None:
    answer = Score(0.5, Usage(score_calls=1))
    log = PartialLog(tmp_path, 0, ())
    for key in "abc":
        log.append(key, "r", 0.0, answer)
    log.close()
    file = tmp_path / "partial_rank0.jsonl"
    a, b, c = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(c + b + a.rstrip())
    for more in "de":
        log = PartialLog(tmp_path, 0, ())
        log.append(more, "r", 0.0, answer)
        log.close()
    log = PartialLog(tmp_path, 0, ())
    assert [list(log.earlier(key)) for key in "abcde"] == [[("r", 0.0, answer)]] * 5


def test_a_log_that_cannot_be_read_is_ignored_with_a_warning(
    tmp_path: FilePath, caplog: pytest.LogCaptureFixture
) -> None:
    file = killed(tmp_path, 1)
    (file.parent / "partial_rank1.jsonl").symlink_to("/proc/self/mem")  # its first byte cannot be read, even by root
    assert resumed(tmp_path) == [TEXTS[0], "\n\n".join(TEXTS[:2])]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_the_reported_cost_is_that_of_this_run(tmp_path: FilePath) -> None:
    killed(tmp_path, 1)
    reported: list[tuple[int, Usage | None]] = []
    for _ in range(2):
        with opened(tmp_path) as journal:
            asking = runner(GROVE, beam(1, 1), ScriptedPolicy(CHAIN), journal=journal)
            asking.run([question()], lambda result, spent: reported.append((result.usage.policy_calls, spent)))
    (whole, spent), again = reported
    assert spent is not None
    assert (whole, spent.policy_calls) == (3, 2)
    assert again == (3, None)


JUDGE = Prompt((Message("user", ("Which is better?",)),))
VERDICTS = {"A": 0.5, "B": 0.3, "neither": 0.2}


def judged(prompt: Prompt) -> Mapping[str, float]:
    return VERDICTS if prompt.messages == JUDGE.messages else {"Step 1: Think.": 0.5, "Step 1: Think again.": 0.5}


async def everything(tree: SearchTree) -> Choice:
    """Steps, verdicts of two roles, scores, a written step and a further root."""
    (family,) = await tree.expand([tree.root], 3)
    verdicts = await asyncio.gather(
        tree.ask(family[0], JUDGE, 2, use="judge", role="judge"),
        tree.ask(family[-1], replace(JUDGE, begun=("Well. ",)), 2, use="judge", role="judge"),
        tree.ask(family[0], JUDGE, use="critic"),
    )
    best = family[0] if verdicts[0][0].steps[-1].text == "A" else family[-1]
    scores = await asyncio.gather(*(tree.score(path) for path in family))
    written = tree.write(best, "Wait.")
    (aside,) = await tree.expand([written], 2, role="judge")
    further = tree.begin(replace(tree.question, choices=("4", "5")))
    ends = await tree.rollouts(2) + await tree.rollouts(2, start=further)
    final = max(ends, key=lambda path: (path.final, path.logprob))
    return Choice(final, max(scores) + len(aside), tree.why(final))


@pytest.mark.slow
@given(groves(), st.integers(0, 40), st.integers(0, 9), st.integers(1, 3))
def test_a_search_with_every_kind_of_call_resumes_at_any_point(
    tmp_path_factory: pytest.TempPathFactory, grove: Grove, calls: int, seed: int, concurrency: int
) -> None:
    folder = tmp_path_factory.mktemp("journal")

    def tree(prompt: Prompt) -> Mapping[str, float]:
        history = history_in(prompt)
        return VERDICTS if prompt.messages == JUDGE.messages else grove.tree.get(history, {"Step 9: Hm.": 1.0})

    def run(limit: int, name: str, slow: bool) -> tuple[list[ScriptedPolicy | ScriptedScorer], list[Any]]:
        asked = 0

        def dies(prompt: Prompt) -> None:
            nonlocal asked
            asked += 1
            if asked > limit:
                raise RuntimeError("killed")

        chance = random.Random(seed)
        delay = (lambda prompt, n: chance.randrange(4)) if slow else (lambda prompt, n: 0)
        policy = ScriptedPolicy(tree, fails=dies, delay=delay)
        judge = ScriptedPolicy(judged, fails=dies, delay=delay, identity="judge")
        scorer = ScriptedScorer(lambda history: len(history) % 10 / 10)
        common: dict[str, Any] = {"scorer": scorer, "roles": {"judge": judge}, "concurrency": concurrency}
        with contextlib.closing(Journal(folder, name, {})) as journal:
            with contextlib.suppress(RuntimeError):
                runner(grove, everything, policy, journal=journal, on_error="raise", **common).run(QUESTIONS[:3])
            return [policy, judge, scorer], records(journal.folder / "rank0.jsonl")

    whole, expected = run(10_000, "whole", slow=False)
    first, _ = run(calls, "killed", slow=True)
    second, resumed = run(10_000, "killed", slow=False)
    assert sorted(map(comparable, resumed)) == sorted(map(comparable, expected))
    assert len(expected) == 3
    for model, before, after in zip(whole, first, second, strict=True):
        answered = Counter(before.calls) & Counter(model.calls)
        asked = answered + Counter(after.calls)
        assert not Counter(model.calls) - asked  # no request is missing
        # Requests in flight at the kill are sent again.
        assert (asked - Counter(model.calls)).total() <= concurrency * 5
    roles = {(node["role"], node["use"]) for record in resumed for node in record["outcome"]["nodes"]}
    assert roles >= {("policy", ""), ("judge", "judge"), ("policy", "critic"), ("", ""), ("judge", "")}


def records(file: FilePath) -> list[dict[str, Any]]:
    return [decode(line) for line in file.read_bytes().split(b"\n") if line]


def comparable(record: dict[str, Any]) -> str:
    """A record without times and checksum."""
    record = json.loads(json.dumps(record))
    del record["checksum"], record["outcome"]["usage"]["seconds"]
    for rollout in record["outcome"]["rollouts"]:
        del rollout["seconds"]
    return json.dumps(record, sort_keys=True)
