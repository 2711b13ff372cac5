"""The policy gives what its server writes, copes with what servers lack, and tells what cannot be helped."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import socket
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, replace
from pathlib import Path as FilePath
from typing import Any

import pytest
import torch
from PIL import Image

from atomthink_plugin.api import (
    AtomThinkError,
    Failure,
    Format,
    Limits,
    Message,
    Outcome,
    Path,
    Proposal,
    Question,
    QuestionError,
    Sampling,
    Step,
)
from atomthink_plugin.config import plan
from atomthink_plugin.formats.atomic import Atomic
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.formats.cot import Cot
from atomthink_plugin.formats.direct import Direct
from atomthink_plugin.formats.steps import SEPARATOR
from atomthink_plugin.model_adapters.openai_policy import OpenAIPolicy, openai_policy
from atomthink_plugin.runtime.build import build
from atomthink_plugin.runtime.journal import Journal
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.servers.chat_endpoint import Endpoint
from atomthink_plugin.servers.openai_client import Server
from atomthink_plugin.testing import ScriptedScorer
from tests.openai_server import (
    ChatServer,
    Fault,
    history_of,
    images_of,
    logprob,
    pieces_of,
    rivals,
    serve,
    story,
    text_of,
)
from tests.policy_prompts import prompt_at, propose, sampling_at

SECRET = "sk-secret-0123456789"
CONTINUE = Continue()
WARM = Sampling(temperature=1.0, max_tokens=40, seed=3)

Serve = Callable[..., ChatServer]


@pytest.fixture
def server() -> Iterator[Serve]:
    """Starts servers that end with the test."""
    with ExitStack() as stack:
        yield lambda **parts: stack.enter_context(serve(ChatServer(**parts)))


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def picture(seed: int, mode: str = "RGB") -> Image.Image:
    pixels = torch.randint(0, 255, (9, 13, len(mode)), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(pixels.to(torch.uint8).numpy(), mode)


def question(name: str = "q", *images: Image.Image, until: tuple[str, ...] = ()) -> Question:
    return Question(name, (Message("user", (*images, "How many?")),), limits=Limits(until=until))


def chain(*steps: str) -> Path:
    path = Path(question())
    for step in steps:
        path = path.extend(Step(step))
    return path


def policy(script: ChatServer, **arguments: Any) -> OpenAIPolicy:
    defaults: dict[str, Any] = {"base_url": script.url, "max_retries": 2, "timeout": 600.0, "wait": 0.0}
    return openai_policy("scripted", **(defaults | arguments))


def ask(asked: OpenAIPolicy, path: Path, sampling: Sampling, n: int = 1, form: Format = CONTINUE) -> Proposal:
    return asyncio.run(propose(asked, form, path, n, sampling))


def seed_of(sampling: Sampling, path: Path, index: int) -> int:
    """The seed that a request for the path's sample `index` has."""
    return sampling_at(path, sampling).seed_of(index) >> 32


def first(text: str) -> str:
    return text.split(SEPARATOR)[0]


# --- what is asked and what comes back ----------------------------------------------------------


@pytest.mark.parametrize("form", [Continue(), Atomic()])
def test_steps_are_what_the_server_writes_at_the_path(server: Serve, form: Format) -> None:
    path = chain("Step 1: Read 4.")
    proposal = ask(policy(server()), path, replace(WARM, rise=0.0), 3, form)
    history = "Step 1: Read 4." + (SEPARATOR if isinstance(form, Continue) else "")
    seed = seed_of(WARM, path, 0)
    assert [step.text for step in proposal.steps] == [first(story(history, 1.0, seed + i)) for i in range(3)]
    assert {step.finish for step in proposal.steps} == {"stop"}


@pytest.mark.parametrize("form", [Direct(), Cot()])
def test_whole_replies_come_whole(server: Serve, form: Format) -> None:
    (step,) = ask(policy(server()), Path(question()), Sampling(max_tokens=40), form=form).steps
    assert (step.text, step.finish) == (story("", 0.0, 0), "eos")


def test_direct_sends_the_tasks_messages_whole(server: Serve) -> None:
    script, images = server(), [picture(0), picture(1, "RGBA")]
    images[0].info["transparency"] = (1, 2, 3)
    messages = (
        Message("system", ("Be brief.",)),
        Message("user", ("Look: ", images[0], "and", images[1], "then ", "answer.")),
        Message("assistant", ("Four.",)),
        Message("user", ("Sure?",)),
    )
    ask(policy(script), Path(Question("q", messages)), Sampling(), form=Direct())
    body = script.asked[-1]
    assert [(turn["role"], text_of(turn["content"])) for turn in body["messages"]] == [
        ("system", "Be brief."),
        ("user", "Look: <image>and<image>then answer."),
        ("assistant", "Four."),
        ("user", "Sure?"),
    ]
    for sent, image in zip(images_of(body), images, strict=True):
        assert sent.mode == "RGB"
        assert "transparency" not in sent.info
        assert sent.tobytes() == image.convert("RGB").tobytes()
    assert "continue_final_message" not in body


def test_an_image_is_encoded_once_and_forgotten_with_its_question(
    server: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved, save = [], Image.Image.save
    monkeypatch.setattr(Image.Image, "save", lambda self, *a, **k: (saved.append(self.size), save(self, *a, **k))[1])
    asked, path = policy(server()), Path(question("q", picture(0)))
    proposal = ask(asked, path, Sampling(rise=0.5), 3)
    ask(asked, path.extend(proposal.steps[0]), WARM, 2)
    assert len(saved) == 1
    assert proposal.usage.images == 3
    del path, proposal
    gc.collect()
    assert asked._turns._image._made == {}


def test_continuing_marks_the_assistants_turn(server: Serve) -> None:
    script = server()
    ask(policy(script), chain("Step 1: Read 4.", "Step 2: Read 5."), Sampling())
    body = script.asked[-1]
    assert body["messages"][-1] == {"role": "assistant", "content": "Step 1: Read 4.\n\nStep 2: Read 5.\n\n"}
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert body["stop"] == ["\n\n", "\nStep 4"]


# --- samples -----------------------------------------------------------------------------------


def test_samples_of_one_temperature_are_one_request(server: Serve) -> None:
    script, path = server(), Path(question())
    sampling = replace(WARM, temperature=0.0, rise=0.5, top_p=0.9, top_k=7)
    proposal = ask(policy(script), path, sampling, 5)
    bodies = sorted(script.sampled(), key=lambda body: body["temperature"])
    assert [(b["temperature"], b.get("n", 1)) for b in bodies] == [(0.0, 1), (0.5, 1), (1.0, 3)]
    assert "seed" not in bodies[0]
    assert "top_k" not in bodies[0]
    assert [b["seed"] for b in bodies[1:]] == [seed_of(sampling, path, i) for i in (1, 2)]
    assert [(b["top_p"], b["top_k"]) for b in bodies[1:]] == [(0.9, 7)] * 2
    last = seed_of(sampling, path, 2)
    texts = [story("", 0.0, 0), story("", 0.5, bodies[1]["seed"]), *(story("", 1.0, last + i) for i in range(3))]
    assert [step.text for step in proposal.steps] == [first(text) for text in texts]
    assert proposal.usage.policy_calls == 5


def test_greedy_siblings_are_asked_once(server: Serve) -> None:
    script = server()
    proposal = ask(policy(script), Path(question()), Sampling(), 4)
    (body,) = script.sampled()
    assert "n" not in body
    assert [step.text for step in proposal.steps] == [first(story("", 0.0, 0))] * 4


@pytest.mark.parametrize("lacks", [{"most": 1}, {"most": 2}, {"refuses_n": True}])
def test_what_a_server_does_not_give_with_n_is_asked_one_by_one(server: Serve, lacks: dict[str, Any]) -> None:
    script, path = server(**lacks), Path(question())
    asked = policy(script)
    given = min(lacks.get("most", 0), 2)
    seeds = [seed_of(WARM, path, i) for i in range(4)]
    alone = [first(story("", 1.0, seed)) for seed in seeds]
    together = [first(story("", 1.0, seeds[0] + i)) for i in range(given)]
    assert [step.text for step in ask(asked, path, WARM, 4).steps] == together + alone[given:]
    before = len(script.asked)
    assert [step.text for step in ask(asked, path, WARM, 4).steps] == alone
    assert [body.get("n", 1) for body in script.asked[before:]] == [1] * 4


def test_choices_beyond_those_asked_for_are_not_taken(server: Serve) -> None:
    class Generous(ChatServer):
        def reply(self, body: dict[str, Any]) -> dict[str, Any]:
            return super().reply({**body, "n": 3})

    with serve(Generous()) as script:
        (step,) = ask(policy(script), Path(question()), Sampling()).steps
    assert step.text == first(story("", 0.0, 0))


def test_rollouts_have_their_own_seeds(server: Serve) -> None:
    script, path = server(), Path(question())
    asked = policy(script)
    alone = [ask(asked, path, replace(WARM, first=i)).steps[0].text for i in range(3)]
    assert alone == [first(story("", 1.0, seed_of(WARM, path, i))) for i in range(3)]


# --- tokens, log-probabilities, usage ----------------------------------------------------------


def test_tokens_and_logprobs_are_the_servers(server: Serve) -> None:
    script = server()
    (step,) = ask(policy(script), Path(question()), Sampling()).steps
    pieces = pieces_of(step.text + "\n\n")
    assert len(step.token_ids) == len(pieces)
    assert step.logprob == pytest.approx(sum(map(logprob, pieces)))


@pytest.mark.parametrize("tops", [1, 3, 19, 20])
def test_the_likeliest_tokens_are_those_of_the_server(server: Serve, tops: int) -> None:
    (step,) = ask(policy(server()), Path(question()), Sampling(tops=tops)).steps
    pieces = pieces_of(step.text + "\n\n")
    assert len(step.tops) == len(step.token_ids) == len(pieces)
    for piece, found in zip(pieces, step.tops, strict=True):
        own = logprob(piece)
        assert found == pytest.approx((own, *sorted([own, *rivals(piece)], reverse=True)[:tops]))


def test_the_likeliest_tokens_end_with_their_step_and_change_no_sample(server: Serve) -> None:
    script = server(speaks=lambda *_: "one two three four five six")
    path = Path(question(until=("zero", "ten", "eleven", "twelve", "four")))
    (step,) = ask(policy(script), path, Sampling(tops=2), form=Direct()).steps
    assert len(step.tops) == len(step.token_ids) == 6
    (silent,) = ask(policy(script), path, Sampling(), form=Direct()).steps
    assert silent == replace(step, tops=())
    assert "top_logprobs" not in script.asked[-1]


@pytest.mark.parametrize("how", ["silent", "without tops", "refused"])
def test_a_server_without_the_likeliest_tokens_fails_the_question_that_needs_them(server: Serve, how: Any) -> None:
    asked = policy(server(logprobs=how))
    for _ in range(2):
        with pytest.raises(QuestionError, match="top_logprobs"):
            ask(asked, Path(question()), replace(WARM, tops=2), 3)
    assert len(ask(asked, Path(question()), WARM, 3).steps) == 3


@pytest.mark.parametrize("how", ["given", "silent", "without tops", "refused"])
def test_servers_are_tried_before_a_run_that_needs_the_likeliest_tokens(server: Serve, how: Any) -> None:
    asked = policy(server(logprobs=how))
    prompts = [prompt_at(Atomic(), Path(question()))]
    asked.check_prompts(prompts, WARM)
    with pytest.raises(AtomThinkError, match="top_logprobs") if how != "given" else nullcontext():
        asked.check_prompts(prompts, replace(WARM, tops=5))


def test_more_of_the_likeliest_tokens_than_the_protocol_has_are_refused_before_a_request(server: Serve) -> None:
    script = server()
    asked = policy(script)
    before = len(script.asked)
    for many in (replace(WARM, tops=21), replace(WARM, tops=100)):
        with pytest.raises(AtomThinkError, match=f"{many.tops} likeliest"):
            asked.check_prompts([prompt_at(Atomic(), Path(question()))], many)
        with pytest.raises(AtomThinkError, match=f"{many.tops} likeliest"):
            ask(asked, Path(question()), many)
    assert len(script.asked) == before


def test_usage_is_the_servers(server: Serve) -> None:
    script = server()
    proposal = ask(policy(script), Path(question()), WARM, 3)
    prompt = script.prompt_tokens(script.asked[-1])
    assert proposal.usage.cached == prompt // 2
    assert proposal.usage.prefilled == prompt - prompt // 2
    assert proposal.usage.generated == sum(len(step.token_ids) for step in proposal.steps)


@pytest.mark.parametrize("how", ["silent", "refused"])
def test_logprobs_are_dropped_once_with_one_warning(server: Serve, caplog: pytest.LogCaptureFixture, how: Any) -> None:
    script = server(logprobs=how)
    asked = policy(script)
    proposals = [ask(asked, Path(question()), WARM, 3) for _ in range(2)]
    assert [record.levelname for record in caplog.records if "log-probabilities" in record.message] == ["WARNING"]
    assert all("logprobs" not in body for body in script.sampled())
    for proposal in proposals:
        assert {step.logprob for step in proposal.steps} == {None}
        assert proposal.usage.generated <= sum(len(s.token_ids) for s in proposal.steps) < proposal.usage.generated + 3


NO_COUNT: tuple[Any, ...] = (3e8, 10**400, -7, 0, "many", None, [1], float("inf"))


@pytest.mark.slow
@pytest.mark.parametrize("count", NO_COUNT)
@pytest.mark.parametrize("how", ["given", "silent"])
def test_a_count_that_cannot_be_right_costs_neither_memory_nor_the_question(
    server: Serve, caplog: pytest.LogCaptureFixture, how: Any, count: Any
) -> None:
    script, path = server(logprobs=how), Path(question())
    asked = policy(script)
    with_counts = ask(asked, path, WARM, 3, form=Atomic())
    caplog.clear()
    script.claims = {"usage": {"prompt_tokens": 40, "completion_tokens": count}}
    proposals = [ask(asked, path, WARM, 3, form=Atomic()) for _ in range(2)]
    for proposal in proposals:
        assert [step.text for step in proposal.steps] == [step.text for step in with_counts.steps]
        assert proposal.usage.prefilled == 40
        assert 0 < proposal.usage.generated <= 3 * WARM.max_tokens
        assert all(0 < len(step.token_ids) <= WARM.max_tokens for step in proposal.steps)
    assert [record.levelname for record in caplog.records] == (["WARNING"] if count is not None else [])


@pytest.mark.parametrize("usage", ["lots", [], {"prompt_tokens": -5}, {"prompt_tokens": 10**12}])
def test_prompt_counts_that_cannot_be_right_are_left_out(server: Serve, usage: Any) -> None:
    script = server()
    asked = policy(script)
    script.claims = {"usage": usage}
    proposal = ask(asked, Path(question()), WARM, 2, form=Atomic())
    assert len(proposal.steps) == 2
    assert (proposal.usage.prefilled, proposal.usage.cached) == (0, 0)


def test_counts_of_unrequested_choices_are_right(server: Serve, caplog: pytest.LogCaptureFixture) -> None:
    script = server(speaks=lambda *_: "word " * 100)
    asked = policy(script)
    script.faults = ["many", "few"]
    for _ in range(2):
        ask(asked, Path(question()), WARM, 2, form=Atomic())
    assert not caplog.records


def test_another_model_than_asked_for_is_reported_once(server: Serve, caplog: pytest.LogCaptureFixture) -> None:
    script = server(claims={"model": "scripted-2024-08-06"})
    asked = policy(script)
    ask(asked, Path(question()), WARM, form=Atomic())
    assert not caplog.records
    script.claims = {"model": "cheaper"}
    for _ in range(3):
        assert len(ask(asked, Path(question()), WARM, 2, form=Atomic()).steps) == 2
    (record,) = caplog.records
    assert "cheaper" in record.getMessage()
    assert "scripted" in record.getMessage()


def test_logprobs_need_not_be_asked_for(server: Serve, caplog: pytest.LogCaptureFixture) -> None:
    script = server()
    ask(policy(script, logprobs=False), Path(question()), Sampling())
    assert all("logprobs" not in body for body in script.asked)
    assert not caplog.records


def test_a_cut_step_counts_its_tokens_whatever_the_server_counts(server: Serve) -> None:
    for parts in ({}, {"logprobs": "silent"}, {"logprobs": "silent", "counted": False}):
        asked = policy(server(**parts), continuation="trust")
        (step,) = ask(asked, Path(question()), Sampling(max_tokens=2)).steps
        assert (step.finish, len(step.token_ids)) == ("length", 2), parts


def test_the_chain_limit_holds_without_ids(server: Serve) -> None:
    script = server(speaks=lambda history, t, seed: f"Step {history.count('Step') + 1}: word {len(history)} more.")
    runner = runner_of({"thinking": "quick", "base_url": script.url, "max_new_tokens": "20"})
    (result,) = runner.run([question()])
    assert isinstance(result, Outcome)
    assert result.stopped == "length"
    assert sum(node.tokens for node in result.nodes if node.rejected is None) <= 20


def test_models_that_know_only_the_new_limit_get_it(server: Serve) -> None:
    script = server(limit_name="max_completion_tokens")
    (step,) = ask(policy(script), Path(question()), Sampling(max_tokens=2)).steps
    assert step.finish == "length"
    assert "max_tokens" not in script.asked[-1]


# --- stops -------------------------------------------------------------------------------------


def test_stops_count_from_the_first_visible_character(server: Serve) -> None:
    script = server(speaks=lambda history, t, seed: "\n\n" + story(history, t, seed))
    path = Path(question())
    proposal = ask(policy(script), path, WARM, 2)
    texts = [first(story("", 1.0, seed_of(WARM, path, i))) for i in range(2)]
    assert [step.text.strip() for step in proposal.steps] == texts
    for step in proposal.steps:
        assert step.logprob == pytest.approx(sum(map(logprob, pieces_of(f"\n\n{step.text.strip()}\n\nStep 2:"))))
        assert step.finish == "stop"
    again = script.sampled()[-1]
    assert again["stop"] == ["\nStep 2"]


def test_more_stops_than_the_protocol_allows_are_looked_for_here(server: Serve) -> None:
    script = server(speaks=lambda *_: "one two three four five six")
    until = ("zero", "ten", "eleven", "twelve", "four")
    (step,) = ask(policy(script), Path(question(until=until)), Sampling(), form=Direct()).steps
    assert (step.text, step.finish) == ("one two three ", "stop")
    assert len(step.token_ids) == 6
    assert step.logprob == pytest.approx(sum(map(logprob, ["one", " ", "two", " ", "three", " "])))
    assert script.asked[-1]["stop"] == list(until[:4])


# --- the context --------------------------------------------------------------------------------


def test_a_full_context_ends_the_chain_and_a_long_question_fails(server: Serve) -> None:
    script = server()
    asked = policy(script)
    ask(asked, Path(question()), Sampling(), form=Atomic())
    room = script.prompt_tokens(script.asked[-1])
    script.context = room + 45
    (step,) = ask(asked, Path(question()), Sampling(max_tokens=128), form=Atomic()).steps
    assert step.text == first(story("", 0.0, 0))
    assert [body["max_tokens"] for body in script.asked[-3:]] == [128, 64, 32]
    assert ask(asked, chain("Step 1: " + "word " * 30), Sampling(max_tokens=128), form=Atomic()).steps == ()
    assert "logprobs" in script.asked[-1]
    script.context = room
    with pytest.raises(QuestionError, match="context"):
        ask(asked, Path(question()), Sampling(max_tokens=128), form=Atomic())


# --- faults -------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [429, 500, 503, "drop"])
def test_what_passes_is_tried_again(server: Serve, fault: Fault) -> None:
    script = server()
    asked = policy(script)
    script.faults = [fault, fault] if isinstance(fault, int) else [fault]
    (step,) = ask(asked, Path(question()), Sampling()).steps
    assert step.text == first(story("", 0.0, 0))
    assert len(script.sampled()) == (3 if isinstance(fault, int) else 2)


@pytest.mark.parametrize("fault", ["garbage", "text", "list", "empty", "null", "error"])
def test_a_reply_that_cannot_be_read_is_asked_for_again(server: Serve, fault: Fault) -> None:
    script = server()
    asked = policy(script)
    script.faults = [fault]
    assert len(ask(asked, Path(question()), WARM, 3).steps) == 3


@pytest.mark.parametrize(
    ("fault", "arguments", "reason"),
    [
        (500, {"max_retries": 1}, "HTTP 500.*max_retries=1"),
        (429, {"max_retries": 1}, "HTTP 429"),
        (400, {}, "refuses the request"),
        (401, {}, "OPENAI_API_KEY"),
        ("drop", {"max_retries": 0}, "cannot be reached"),
        ("garbage", {}, "no chat completion.*3 times"),
        ("text", {}, "welcome"),
        ("list", {}, "no chat completion"),
        ("empty", {}, "without choices"),
        ("error", {}, "the engine has died"),
        ("filtered", {}, "content filter"),
    ],
)
def test_what_does_not_pass_fails_the_question_with_its_reason(
    server: Serve, fault: Fault, arguments: dict[str, Any], reason: str
) -> None:
    script = server()
    asked = policy(script, **arguments)
    script.always = fault
    with pytest.raises(QuestionError, match=reason) as caught:
        ask(asked, Path(question()), WARM, 2, form=Atomic())
    assert script.url in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["hang", "trickle"])
def test_a_server_that_never_ends_its_reply_fails_the_question_by_the_timeout(server: Serve, fault: Fault) -> None:
    script = server(always=fault)
    # Without the check before the first question: that one needs its reply in time.
    slow = Server(script.url, "", timeout=2.0, max_retries=0, connections=1)
    asked = OpenAIPolicy("scripted", [Endpoint(slow, "scripted", logprobs=True)], wait=0.0)
    with pytest.raises(QuestionError, match="timeout=2") as caught:
        ask(asked, Path(question()), WARM, 2)
    assert script.url in str(caught.value)


@pytest.mark.parametrize("fault", ["flood", "compressed flood"])
def test_a_reply_of_megabytes_is_not_read_and_not_asked_for_again(server: Serve, fault: Fault) -> None:
    script = server()
    asked = policy(script)
    script.always = fault
    with pytest.raises(QuestionError) as caught:
        ask(asked, Path(question()), WARM)
    assert script.url in str(caught.value)
    assert len(script.sampled()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["flood", "compressed flood"])
def test_the_bound_of_replies_grows_with_what_is_asked_for(server: Serve, fault: Fault) -> None:
    script = server(context=10**9)
    asked = policy(script)
    script.faults = [fault]
    tokens = 60_000  # with their log-probabilities, as many megabytes at most
    assert len(ask(asked, Path(question()), replace(WARM, max_tokens=tokens)).steps) == 1
    script.faults = [fault]
    assert len(ask(asked, Path(question()), replace(WARM, max_tokens=tokens // 20, tops=20)).steps) == 1


@pytest.mark.parametrize("codec", ["punycode", "hex", "utf-16", "no-such-codec"])
def test_a_server_does_not_choose_how_its_reply_is_decoded(server: Serve, codec: str) -> None:
    script = server(headers={"Content-Type": f"application/json; charset={codec}"})
    assert len(ask(policy(script), Path(question()), WARM).steps) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_redirect_to_another_server_gets_nothing(server: Serve, status: int, host: str) -> None:
    script, other = server(), server()
    asked = policy(script)
    address = other.url.replace("127.0.0.1", host)
    script.redirects = {"/v1/chat/completions": (status, f"{address}/chat/completions")}
    with pytest.raises(QuestionError, match="base_url=") as caught:
        ask(asked, Path(question("q", picture(0))), WARM)
    assert address in str(caught.value)
    assert "chat/completions" not in str(caught.value)
    assert not other.asked
    assert len(script.sampled()) == 1


def test_a_redirect_within_the_server_is_followed(server: Serve) -> None:
    script = server()
    asked = policy(script)
    script.redirects = {"/v1/chat/completions": (307, "/elsewhere")}
    assert len(ask(asked, Path(question()), WARM).steps) == 1
    script.redirects = {"/v1/chat/completions": (302, "/elsewhere")}  # clients would get it, without the question
    with pytest.raises(QuestionError, match="base_url="):
        ask(asked, Path(question()), WARM)


def test_one_failing_question_leaves_the_others_alone(server: Serve) -> None:
    class Picky(ChatServer):
        def refusal(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
            return (400, {"message": "no such thing"}) if "poison" in str(body["messages"]) else super().refusal(body)

    with serve(Picky()) as script:
        runner = runner_of({"thinking": "quick", "base_url": script.url})
        bad = Question("bad", (Message("user", ("poison",)),))
        results = runner.run([question("a"), bad, question("b")])
    assert [type(result) for result in results] == [Outcome, Failure, Outcome]
    assert isinstance(results[1], Failure)
    assert "no such thing" in results[1].reason


# --- before the first question ------------------------------------------------------------------


def test_an_unknown_model_is_named_with_the_known_ones(server: Serve) -> None:
    with pytest.raises(AtomThinkError, match=r"pretrained=scripted.*other, another"):
        policy(server(models=("other", "another")))


def test_an_address_without_its_path_is_reported(server: Serve) -> None:
    script = server()
    with pytest.raises(AtomThinkError, match="/v1"):
        policy(script, base_url=script.url.removesuffix("/v1"))


def test_an_unreachable_server_is_reported() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(AtomThinkError, match=f"base_url={url}"):
            openai_policy("scripted", base_url=url, max_retries=0)


def test_a_missing_key_is_reported_and_a_server_without_list_is_fine(server: Serve) -> None:
    with pytest.raises(AtomThinkError, match="OPENAI_API_KEY"):
        policy(server(key=SECRET))
    policy(server(models=None))


@pytest.mark.parametrize("how", ["ignored", "refused"])
def test_a_server_that_does_not_continue_is_reported_and_other_prompts_work(server: Serve, how: Any) -> None:
    script = server(continues=how)
    asked, path = policy(script), chain("Step 1: Read 4.")
    begun = [prompt_at(Continue(), each) for each in (Path(question()), path)]
    with pytest.raises(AtomThinkError, match="format=atomic"):
        asked.check_prompts(begun, WARM)
    for form in (Atomic(), Direct(), Cot()):
        asked.check_prompts([prompt_at(form, path)], WARM)
        assert ask(asked, path, Sampling(), form=form).steps
    if how == "ignored":
        policy(script, continuation="trust").check_prompts(begun, WARM)


@pytest.mark.parametrize("url", ["", " ; ", "localhost:8000/v1", "ftp://host/v1", "http://[host/v1", "http://a:b/v1"])
def test_an_invalid_address_is_reported(url: str) -> None:
    with pytest.raises(AtomThinkError, match=r"base_url=.*http://localhost:8000/v1"):
        openai_policy("scripted", base_url=url)


# --- the key -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_key_is_sent_and_shown_nowhere(
    server: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OPENAI_API_KEY", f"{SECRET}\n")
    script = server(key=SECRET, logprobs="refused")
    asked = policy(script, max_retries=1)
    ask(asked, Path(question()), WARM, 2)
    assert set(script.keys) == {f"Bearer {SECRET}"}
    shown = [asked.identity, repr(vars(asked))]
    faults: list[Fault] = [500, 400, 401, 404, "drop", "garbage"]
    for fault in faults:
        script.always = fault
        with pytest.raises(QuestionError) as caught:
            ask(asked, Path(question()), Sampling())
        shown.append("".join(traceback.format_exception(caught.value)))
    monkeypatch.setenv("OPENAI_API_KEY", SECRET + "9")
    script.always = None
    with pytest.raises(AtomThinkError, match="OPENAI_API_KEY") as refused:
        policy(script)
    shown.append("".join(traceback.format_exception(refused.value)))
    assert SECRET not in "\n".join([*shown, caplog.text])


@pytest.mark.parametrize("url", [f"http://me:{SECRET}@host/v1", f"https://host/v1?key={SECRET}"])
def test_a_key_in_an_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(AtomThinkError, match="OPENAI_API_KEY") as caught:
        openai_policy("scripted", base_url=url)
    assert SECRET not in str(caught.value)


def test_an_invalid_key_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{SECRET}…")
    with pytest.raises(AtomThinkError, match="OPENAI_API_KEY") as caught:
        openai_policy("scripted", base_url="http://localhost:1/v1")
    assert SECRET not in str(caught.value)


# --- whole searches ------------------------------------------------------------------------------


def runner_of(typed: dict[str, str], scorer: ScriptedScorer | None = None) -> Runner:
    """A run as the command line builds it, with a scripted scorer where one is needed."""
    runner = replace(build(plan("openai", {"pretrained": "scripted", "max_retries": "2", **typed})), trees=True)
    return runner if scorer is None else replace(runner, scorer=scorer)


def parity(history: str) -> float:
    """A score that only the text decides."""
    return (sum(map(ord, history)) % 97) / 96


SEARCHES: list[dict[str, str]] = [
    {"search": "best_of_n", "n": "4"},
    {"search": "beam", "beams": "2", "candidates": "3"},
]


@pytest.mark.slow
@pytest.mark.parametrize("typed", SEARCHES)
@pytest.mark.parametrize("form", ["continue", "atomic"])
def test_searches_run_over_several_servers_and_stay_with_one(server: Serve, typed: dict[str, str], form: str) -> None:
    scripts = [server(), server()]
    urls = ";".join(script.url for script in scripts)
    arguments = {"thinking": "slow", "scorer": "confidence", "format": form, **typed}
    questions = [Question(f"q{i}", (Message("user", (f"Question number {i}?",)),)) for i in range(8)]
    runner = runner_of({**arguments, "base_url": urls}, ScriptedScorer(parity))
    results = runner.run(questions)
    assert all(isinstance(result, Outcome) and result.answer and len(result.steps) == 3 for result in results)
    seen = [{i for i in range(8) if f"number {i}?" in str([b["messages"] for b in s.sampled()])} for s in scripts]
    assert seen[0] | seen[1] == set(range(8))
    assert not seen[0] & seen[1]
    assert all(seen)
    # Once more, with the same policy on a new event loop, one question at a time.
    again = replace(runner, concurrency=1, scorer=ScriptedScorer(parity)).run(questions)
    assert [_timeless(result) for result in again] == [_timeless(result) for result in results]


def test_a_question_stays_with_one_of_the_engines_behind_an_address(server: Serve) -> None:
    script = server()
    policy = openai_policy("scripted", base_url=script.url, data_parallel_size=3)
    assert sorted(script.ranks, key=str) == ["0", "1", "2"]  # all were tried
    script.ranks.clear()
    script.asked.clear()
    asked = [Question(f"q{i}", (Message("user", (f"Question number {i}?",)),)) for i in range(12)]
    for path in map(Path, [*asked, *asked]):
        ask(policy, path, Sampling(1.0, max_tokens=8), 2)
    ranks: dict[str, set[str | None]] = {}
    for body, rank in zip(script.asked, script.ranks, strict=True):
        (number,) = re.findall(r"number (\d+)\?", str(body["messages"]))
        ranks.setdefault(number, set()).add(rank)
    assert len(ranks) == 12
    assert all(len(own) == 1 for own in ranks.values())
    assert set().union(*ranks.values()) == {"0", "1", "2"}


def test_a_server_chooses_its_engine_by_default(server: Serve) -> None:
    script = server()
    openai_policy("scripted", base_url=script.url)
    assert set(script.ranks) == {None}


def _timeless(result: Any) -> dict[str, Any]:
    paths = tuple(replace(path, seconds=0.0) for path in result.rollouts)
    return {name: value for name, value in asdict(replace(result, rollouts=paths)).items() if name != "usage"}


def test_best_of_n_takes_the_best_of_its_rollouts(server: Serve) -> None:
    asked = question()
    arguments = {"thinking": "slow", "search": "best_of_n", "n": "4", "aggregate": "last", "scorer": "confidence"}
    scorer = ScriptedScorer(parity)
    (result,) = runner_of({**arguments, "base_url": server().url}, scorer).run([asked])
    chains = []
    for index in range(4):
        path, sampling = Path(asked), Sampling(temperature=1.0, first=index)
        while path.depth < 3:
            history = "".join(step.text + SEPARATOR for step in path.steps)
            path = path.extend(Step(first(story(history, 1.0, seed_of(sampling, path, 0)))))
        chains.append(tuple(step.text for step in path.steps))
    assert isinstance(result, Outcome)
    assert result.steps == max(chains, key=lambda steps: parity(SEPARATOR.join(steps)))


def test_confidence_reads_the_servers_logprobs(server: Serve) -> None:
    arguments = {"thinking": "slow", "search": "greedy", "scorer": "confidence", "base_url": server().url}
    (result,) = runner_of(arguments).run([question()])
    assert isinstance(result, Outcome)
    assert all(score is not None and 0 < score < 1 for score in result.scores)


def test_confidence_without_logprobs_is_reported_and_scores_nothing(server: Serve) -> None:
    arguments = {"thinking": "slow", "search": "greedy", "scorer": "confidence"}
    (result,) = runner_of({**arguments, "base_url": server(logprobs="silent").url}).run([question()])
    assert isinstance(result, Failure)
    assert re.search(r"scorer=confidence needs.*prm=", result.reason)


def test_votes_need_no_logprobs(server: Serve, tmp_path: FilePath) -> None:
    script = server(logprobs="silent", speaks=lambda *_: "Step 1: To sum up, the final answer is: 4.")
    runner = runner_of({"thinking": "slow", "search": "majority", "base_url": script.url})
    written = replace(runner, journal=Journal(tmp_path, "run", {}))
    for _ in range(2):  # thought, then read back
        (result,) = written.run([question()])
        assert isinstance(result, Outcome)
        assert (result.answer, result.value) == ("4", 1.0)
        assert [(node.logprob, node.multiplicity) for node in result.nodes] == [(None, 8)]


@pytest.mark.slow
def test_requests_in_flight_are_bounded(server: Serve) -> None:
    script = server()
    runner = runner_of({"thinking": "quick", "base_url": script.url, "connections": "3"})
    assert len(runner.run([question(f"q{i}") for i in range(30)])) == 30
    assert script.most_in_flight <= 3


def test_connections_end_with_the_run(server: Serve) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", ResourceWarning)
        asked = policy(server())
        for _ in range(2):
            ask(asked, Path(question()), Sampling())
        assert [server._sessions for server in asked._endpoints] == [{}]
        gc.collect()
    assert not [str(warning.message) for warning in seen if "transport" in str(warning.message)]


def test_the_servers_history_is_the_paths(server: Serve) -> None:
    script = server()
    ask(policy(script), chain("Step 1: Read 4.", "Step 2: Read 5."), Sampling(), form=Atomic())
    assert history_of(script.asked[-1]) == "Step 1: Read 4.\n\nStep 2: Read 5."


@pytest.mark.parametrize("how", ["given", "silent", "without tops", "refused"])
def test_watched_tokens_are_read_where_the_server_lists_them(server: Serve, how: Any) -> None:
    script = server(speaks=lambda *_: "Yes it is", logprobs=how)
    asked = policy(script)
    for _ in range(2):  # a server that lists none is asked without them from then on
        (step,) = ask(asked, Path(question()), Sampling(watch=("Yes", "No")), form=Direct()).steps
        listed = sorted([logprob("Yes"), *rivals("Yes")], reverse=True)[:20]
        assert step.watched == (pytest.approx((logprob("Yes"), min(listed))) if how == "given" else ())
