"""PRMs of profiles on a fake server that runs a tiny model. The tests with real vLLM servers are in tests/vllm."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path as FilePath
from typing import Any

import pytest
import yaml
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer

from atomthink_plugin.api import AtomThinkError, QuestionError
from atomthink_plugin.config import plan
from atomthink_plugin.scorers.image_placeholder import ImagePlaceholder
from atomthink_plugin.scorers.prm_profiled import prm_profiled
from atomthink_plugin.scorers.served_profiled import ServedProfiledPrm, served_prm_profiled
from tests.openai_server import Body, ChatServer, serve
from tests.scorers.shared import PATHS, scores
from tests.scorers.vllm_routes import VllmRoutes
from tests.tiny_models import causal_prm, chain, folder, head_prm, loaded, picture, question, qwen, value_prm

MARKUP = {
    "system": "<|im_start|>system\n{text}<|im_end|>\n",
    "user": "<|im_start|>user\n{text}<|im_end|>\n",
    "assistant": "<|im_start|>assistant\n{text}<|im_end|>\n",
    "header": "<|im_start|>assistant\n",
}
PAIR = {"kind": "pair", "good": "+", "bad": "-"}
TURNS = {
    "kind": "turns",
    "chat": MARKUP,
    "system": "Judge.",
    "first": "Q: {image}\n{question}\n\nS: {step}",
    "history": "+",
}
TAGGED = {"kind": "tagged", "role": "none", "before": "{question} ", "step": "Step: {step}{tag}", "tag": "<extra_0>"}
ASKED = {"kind": "asked", "user": "{question}\n{steps}\nIs step {k} right?", "begin": "Verdict: "}


def profile(path: FilePath, **fields: Any) -> str:
    """A profile of a user's own, as a file."""
    common = {"names": ["ours/prm"], "loader": "causal", "licence": "-", "source": "-"}
    path.write_text(yaml.safe_dump({**common, **fields}))
    return str(path)


@contextmanager
def served(
    build: Callable[[FilePath], FilePath], file: str, routes: VllmRoutes, **changes: Any
) -> Iterator[tuple[ServedProfiledPrm, ChatServer]]:
    script = ChatServer(routes={**routes.routes(), **changes})
    with serve(script) as server:
        prm = served_prm_profiled(str(folder(build)), profile=file, base_url=server.url, max_retries=0, wait=0)
        server.asked.clear()
        yield prm, server


def language_model() -> VllmRoutes:
    return VllmRoutes(AutoModelForCausalLM.from_pretrained(folder(causal_prm)).eval())


def in_process(build: Callable[[FilePath], FilePath], file: str) -> list[float]:
    return scores(prm_profiled(str(folder(build)), profile=file, device="cpu"), PATHS)


@pytest.mark.parametrize("layout", [TURNS, TAGGED, ASKED], ids=lambda layout: layout["kind"])
@pytest.mark.parametrize("read", [PAIR, {"kind": "share", "good": "+"}], ids=lambda read: read["kind"])
def test_a_language_model_gives_the_scores_of_this_process(
    layout: dict[str, Any], read: dict[str, Any], tmp_path: FilePath
) -> None:
    file = profile(tmp_path / "prm.yaml", layout=layout, read=read)
    with served(causal_prm, file, language_model()) as (prm, server):
        assert scores(prm, PATHS) == pytest.approx(in_process(causal_prm, file), abs=1e-5)
        usage = asyncio.run(prm.score(PATHS[0])).usage
    length = len(server.asked[-1]["prompt"])
    assert (usage.score_calls, usage.cached, usage.prefilled) == (1, length // 2, length - length // 2)


def test_a_server_gets_the_authors_text_as_ids_and_the_two_tokens(tmp_path: FilePath) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder(causal_prm))
    file = profile(tmp_path / "prm.yaml", layout=TURNS, read=PAIR)
    path = chain(question("How many?"), "Step 1: One.", "Step 2: Two.")
    with served(causal_prm, file, language_model()) as (prm, server):
        asyncio.run(prm.score(path))
    by_hand = (
        "<|im_start|>system\nJudge.<|im_end|>\n<|im_start|>user\nQ: How many?\n\nS: Step 1: One.<|im_end|>\n"
        "<|im_start|>assistant\n+<|im_end|>\n<|im_start|>user\nStep 2: Two.<|im_end|>\n<|im_start|>assistant\n"
    )
    (body,) = server.asked
    assert body["prompt"] == tokenizer.encode(by_hand, add_special_tokens=False)
    assert body["logprob_token_ids"] == [tokenizer.encode(text)[0] for text in "+-"]
    assert body["max_tokens"] == 1


@pytest.mark.parametrize(
    ("build", "fields"),
    [
        (head_prm, {"loader": "token_class", "read": {"kind": "classes", "count": 2, "good": [1]}}),
        (head_prm, {"loader": "token_class", "read": {"kind": "classes", "count": 2, "good": [0]}}),
        (head_prm, {"loader": "token_class", "read": {"kind": "classes", "count": 2, "good": [1], "minus": [0]}}),
        (value_prm, {"loader": "value_head", "read": {"kind": "scalar"}, "served_as": "LastStepValueModel"}),
    ],
    ids=["second class", "first class", "difference", "value head"],
)
def test_a_classifier_gives_the_scores_of_this_process(
    build: Callable[[FilePath], FilePath], fields: dict[str, Any], tmp_path: FilePath
) -> None:
    file = profile(tmp_path / "prm.yaml", layout=TAGGED, **fields)
    own = prm_profiled(str(folder(build)), profile=file, device="cpu")
    with served(build, file, VllmRoutes(own._checkpoint.model)) as (prm, server):
        assert scores(prm, PATHS) == pytest.approx(scores(own, PATHS), abs=1e-5)
        assert {len(body["input"]) for body in server.asked} == {own.encode(path).encoding.length for path in PATHS}


IMAGES = {
    "loader": "image_text",
    "images": {"use": "all", "most": 2},
    "layout": {**TURNS, "chat": "template"},
    "read": PAIR,
}


def image_model() -> VllmRoutes:
    return VllmRoutes(loaded(qwen).model, loaded(qwen).processor)


def test_a_model_that_reads_images_gets_them_beside_the_ids(tmp_path: FilePath) -> None:
    file = profile(tmp_path / "prm.yaml", **IMAGES)
    several = chain(question("How many?", picture(0, (84, 112)), picture(1)), "Step 1: One.", "Step 2: Two.")
    own = prm_profiled(str(folder(qwen)), profile=file, device="cpu")
    with served(qwen, file, image_model()) as (prm, server):
        paths = [*PATHS, several]
        assert scores(prm, paths) == pytest.approx(scores(own, paths), abs=1e-5)
        server.asked.clear()
        asyncio.run(prm.score(several))
        with pytest.raises(QuestionError, match="3 images"):
            asyncio.run(prm.score(chain(question("How?", picture(), picture(1), picture(2)), "Step 1: One.")))
    (body,) = server.asked
    tokenizer = loaded(qwen).tokenizer
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    by_hand = (
        f"<|im_start|>system\nJudge.<|im_end|>\n<|im_start|>user\nQ: {image}\n{image}\nHow many?\n\nS: Step 1: One."
        "<|im_end|>\n<|im_start|>assistant\n+<|im_end|>\n<|im_start|>user\nStep 2: Two.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert body["token_ids"] == tokenizer.encode(by_hand, add_special_tokens=False)
    assert len(body["content_parts"]) == 2
    assert set(body["sampling_params"]["logprob_token_ids"]) == {tokenizer.encode(text)[0] for text in "+-"}


def test_a_server_that_keeps_images_gets_each_of_them_once(tmp_path: FilePath) -> None:
    file = profile(tmp_path / "prm.yaml", **IMAGES)
    asked = question("How many?", picture(0, (84, 112)), picture(1))
    paths = [chain(asked, *["Step: One."] * count) for count in (1, 2, 3)]
    model = image_model()
    with serve(ChatServer(routes=model.routes(), owner="vllm")) as server:
        prm = served_prm_profiled(str(folder(qwen)), profile=file, base_url=server.url, max_retries=0, wait=0)
        server.asked.clear()
        values = [*scores(prm, paths[:1]), *scores(prm, paths[1:2])]
        model.kept.clear()
        values += scores(prm, paths[2:])
    with served(qwen, file, image_model()) as (plain, other):
        assert values == pytest.approx(scores(plain, paths), abs=1e-6)
    sent = [[(part["url"] is not None, "uuid" in part) for part in body["content_parts"]] for body in server.asked]
    whole, named = [(True, True)] * 2, [(False, True)] * 2
    assert sent == [whole, named, named, whole]
    assert [part.keys() for body in other.asked for part in body["content_parts"]] == [{"type", "url"}] * 6


def test_a_server_that_prepares_images_in_another_size_is_refused(tmp_path: FilePath) -> None:
    file = profile(tmp_path / "prm.yaml", **IMAGES)

    def scaled(body: Body) -> tuple[int, Any]:
        status, reply = image_model().generate(body)
        pad = loaded(qwen).tokenizer.convert_tokens_to_ids("<|image_pad|>")
        reply["prompt_token_ids"].insert(reply["prompt_token_ids"].index(pad), pad)
        return status, reply

    routes = {"/inference/v1/generate": scaled}
    with pytest.raises(AtomThinkError, match="--enable-scale-out"), served(qwen, file, image_model(), **routes):
        pass


@pytest.mark.parametrize(
    "reply",
    [
        (200, {"choices": [{"logprobs": {"top_logprobs": [{"token_id:1": -1.0}]}}]}),
        (200, {"choices": [{"logprobs": {"top_logprobs": [{"+": -1.0, "-": -1.0}]}}]}),
        (200, {"choices": [{"logprobs": {"top_logprobs": []}}]}),
        (200, {"choices": [{"logprobs": None}]}),
        (200, {"choices": []}),
        (200, [1, 2]),
        (400, {"error": {"message": "too long"}}),
        (404, {"error": {"message": "no such route"}}),
    ],
    ids=json.dumps,
)
def test_a_reply_without_a_score_fails_its_path(reply: tuple[int, Any], tmp_path: FilePath) -> None:
    file = profile(tmp_path / "prm.yaml", layout=TAGGED, read=PAIR)
    good = language_model()
    replies: list[Callable[[Body], tuple[int, Any]]] = [good.completions]
    with served(causal_prm, file, good, **{"/v1/completions": lambda body: replies[-1](body)}) as (prm, _):
        replies.append(lambda body: reply)
        with pytest.raises(QuestionError):
            asyncio.run(prm.score(PATHS[0]))
        replies.pop()
        assert 0 < asyncio.run(prm.score(PATHS[0])).value < 1


def test_a_classifier_with_another_number_of_outputs_is_refused(tmp_path: FilePath) -> None:
    fields = {"loader": "token_class", "read": {"kind": "classes", "count": 3, "good": [1]}}
    file = profile(tmp_path / "prm.yaml", layout=TAGGED, **fields)
    model = AutoModelForTokenClassification.from_pretrained(folder(head_prm)).eval()
    with pytest.raises(AtomThinkError, match="2 outputs"), served(head_prm, file, VllmRoutes(model)):
        pass


def test_scores_are_those_of_a_profile_and_a_checkpoint_and_not_of_an_address(tmp_path: FilePath) -> None:
    file = profile(tmp_path / "prm.yaml", layout=TAGGED, read=PAIR)
    identities: list[str] = []
    for _ in range(2):
        with serve(ChatServer(routes=language_model().routes(), root="/models/prm")) as server:
            prm = served_prm_profiled(str(folder(causal_prm)), profile=file, base_url=server.url, max_retries=0)
            identities.append(prm.identity)
    assert identities[0] == identities[1]
    profile(tmp_path / "prm.yaml", layout=TAGGED, read={"kind": "share", "good": "+"})
    with serve(ChatServer(routes=language_model().routes(), root="/models/prm")) as server:
        prm = served_prm_profiled(str(folder(causal_prm)), profile=file, base_url=server.url, max_retries=0)
    assert prm.identity != identities[0]


def test_a_run_with_a_profile_and_an_address_asks_the_server(tmp_path: FilePath) -> None:
    file = profile(tmp_path / "prm.yaml", layout=TAGGED, read=PAIR)
    with serve(ChatServer(routes=language_model().routes())) as server:
        typed = {"pretrained": "-", "thinking": "slow", "prm": str(folder(causal_prm)), "prm_profile": file}
        scorer = plan("transformers", {**typed, "prm_base_url": server.url, "prm_max_retries": "0"}).scorer
        assert scorer is not None
        assert isinstance(scorer(), ServedProfiledPrm)
        assert server.asked


@pytest.mark.parametrize(
    "fields",
    [
        {"loader": "remote", "read": {"kind": "scalar"}},
        {"loader": "value_head", "read": {"kind": "scalar"}},
        {"loader": "token_class", "read": {"kind": "classes", "count": 2, "good": [1]}, "images": {"use": "first"}},
    ],
    ids=["own code", "value head without a class", "images"],
)
def test_what_vllm_cannot_serve_is_refused_before_any_request(fields: Mapping[str, Any], tmp_path: FilePath) -> None:
    file = profile(tmp_path / "prm.yaml", layout=TAGGED, **fields)
    with serve(ChatServer()) as server:
        with pytest.raises(AtomThinkError, match="prm_base_url="):
            served_prm_profiled(str(folder(causal_prm)), profile=file, base_url=server.url)
        assert not server.asked


def test_the_tokens_of_images_become_placeholders() -> None:
    native, original = ImagePlaceholder(9, (9,)), ImagePlaceholder(9, (5, 6), around=True)
    assert native.unexpanded((1, 9, 9, 9, 2, 9, 3), 2) == [1, 9, 2, 9, 3]
    assert original.unexpanded((1, 7, 9, 9, 8, 2, 7, 9, 8), 2) == [1, 5, 6, 2, 5, 6]
    assert original.unexpanded((7, 9, 8), 1) == [5, 6]
    assert native.unexpanded((1, 2), 0) == [1, 2]
    with pytest.raises(QuestionError):
        native.unexpanded((1, 9, 9, 2), 2)
