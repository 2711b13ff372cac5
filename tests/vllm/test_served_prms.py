"""PRMs on real vLLM servers give the scores they give in this process, and read histories from the prefix cache."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path as FilePath
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import Qwen2Config, Qwen2Model

from atomthink_plugin.api import AtomThinkError, Outcome, Path, Scorer
from atomthink_plugin.config import plan
from atomthink_plugin.model_adapters.tiny import WEIGHTS
from atomthink_plugin.runtime.build import build
from atomthink_plugin.runtime.event_loop import run
from atomthink_plugin.scorers.prm_head import Conversation, prm_head
from atomthink_plugin.scorers.prm_profiled import prm_profiled
from atomthink_plugin.scorers.prm_token import prm_token
from atomthink_plugin.scorers.profile_catalogue import PROFILES, profile_named
from atomthink_plugin.scorers.served_head import served_prm_head
from atomthink_plugin.scorers.served_profiled import served_prm_profiled
from atomthink_plugin.scorers.served_token import served_prm_token
from atomthink_plugin.scorers.vllm_command import vllm_command
from tests.openai_server import Body
from tests.tiny_models import chain, folder, llava, picture, question
from tests.vllm import vllm_server

ASKED = {"kind": "asked", "user": "{question}\n{steps}\nIs step {k} right?", "begin": "Verdict:"}
STEPS = [f"Step {k}: Compute {k} + {k} = {2 * k}." for k in range(1, 8)]
PATHS = [chain(question("How many are there?" * 4), *STEPS[:depth]) for depth in range(1, 8)]


@pytest.fixture
def made(tmp_path: FilePath) -> Callable[[Callable[[FilePath], FilePath]], FilePath]:
    return lambda build: build(tmp_path / build.__name__)


@pytest.fixture
def profile(tmp_path: FilePath) -> Callable[..., str]:
    """A published profile as a file without its ids, which tiny tokenizers do not have, and with other fields."""

    def write(name: str, **fields: Any) -> str:
        content = yaml.safe_load(PROFILES[name].read_text()) | {"ids": {}} | fields
        file = tmp_path / f"{len(list(tmp_path.iterdir()))}.yaml"
        file.write_text(yaml.safe_dump(content))
        return str(file)

    return write


def options(profile: str) -> list[str]:
    """The options of `vllm serve` for the PRM of a profile."""
    _, _, _, *words = shlex.split(vllm_command(profile_named(profile).model))
    return words


def assert_same(prm: FilePath, profile: str, server: vllm_server.VllmServer, paths: Sequence[Path]) -> None:
    """Served scores are those of this process, and longer paths are read from the prefix cache."""
    served = served_prm_profiled(str(prm), profile=profile, base_url=server.url)
    own = prm_profiled(str(prm), profile=profile, device="cpu")
    before = server.prefix_cache()
    assert scores(served, paths) == pytest.approx(scores(own, paths), abs=1e-3)
    asked, found = (after - start for after, start in zip(server.prefix_cache(), before, strict=True))
    assert found > 0.6 * asked


def scores(scorer: Scorer, paths: Sequence[Path]) -> list[float]:
    return [run(scorer.score(path)).value for path in paths]


def test_a_language_model_read_at_a_tag(
    made: Callable[[Callable[[FilePath], FilePath]], FilePath], profile: Callable[..., str]
) -> None:
    prm = made(vllm_server.causal_prm)
    with vllm_server.serve(prm, "--enable-prompt-tokens-details", "--max-model-len", "512") as server:
        served = served_prm_token(str(prm), base_url=server.url)
        assert scores(served, PATHS) == pytest.approx(scores(prm_token(str(prm), device="cpu"), PATHS), abs=1e-4)
        again = run(served.score(PATHS[-1])).usage
        assert again.cached >= 0.8 * (again.cached + again.prefilled)
        with pytest.raises(AtomThinkError, match=r"refuses to score a step.*404.*pooling"):
            served_prm_head(str(prm), base_url=server.url, separator="<extra_0>")
        assert_same(prm, profile("math_psa"), server, PATHS)
        assert_same(prm, profile("rlhflow_mistral"), server, PATHS)
        assert_same(prm, profile("rlhflow_mistral", layout=ASKED, read={"kind": "share", "good": "+"}), server, PATHS)
        with pytest.raises(AtomThinkError, match=r"404.*--runner pooling"):
            served_prm_profiled(str(prm), profile=profile("qwen2_5_math_prm"), base_url=server.url)


def test_a_profile_with_images_and_one_of_a_value_head(
    made: Callable[[Callable[[FilePath], FilePath]], FilePath], profile: Callable[..., str], posted: list[Body]
) -> None:
    reader, judge = made(vllm_server.image_prm), made(vllm_server.value_prm)
    asked = question("How many are there?" * 4, picture(0, (120, 200)), picture(1))
    paths = [chain(asked, *STEPS[:depth]) for depth in range(1, 8)]
    small = profile("qwen_vl_prm", images={"use": "all", "min_pixels": 28 * 28 * 4, "max_pixels": 28 * 28 * 9})
    other = profile("qwen_vl_prm", images={"use": "all", "min_pixels": 28 * 28 * 16, "max_pixels": 28 * 28 * 20})
    value = profile("skywork_o1_open_prm")
    with (
        vllm_server.starting(reader, *options(small), "--max-model-len", "2048") as images,
        vllm_server.starting(judge, *options(value), "--max-model-len", "512") as values,
    ):
        vllm_server.server_is_up(images)
        assert_same(reader, small, images, paths)
        pictures = [part for body in posted for part in body.get("content_parts") or ()]
        travelled = Counter(part["uuid"] for part in pictures if part["url"] is not None)
        assert set(travelled.values()) == {1}
        assert len(pictures) > 2 * len(paths)
        with pytest.raises(AtomThinkError, match="images included"):
            served_prm_profiled(str(reader), profile=other, base_url=images.url)
        vllm_server.server_is_up(values)
        assert_same(judge, value, values, PATHS)


def test_the_embedded_prm_reads_images_in_a_chat() -> None:
    prm = WEIGHTS / "prm"
    asked = question("How many are there? " * 4, picture())
    paths = [chain(asked, *STEPS[:depth]) for depth in range(1, 8)]
    with vllm_server.serve(prm, "--enable-prompt-tokens-details", "--max-model-len", "1024") as server:
        served = served_prm_token(str(prm), base_url=server.url)
        assert scores(served, paths) == pytest.approx(scores(prm_token(str(prm), device="cpu"), paths), abs=1e-4)
        other = chain(question("How many are there? " * 4, picture(1)), *STEPS)
        assert abs(run(served.score(other)).value - run(served.score(paths[-1])).value) > 1e-4
        again = run(served.score(paths[-1])).usage
        assert again.cached >= 0.8 * (again.cached + again.prefilled)


def test_a_classifier_read_at_its_separator(
    made: Callable[[Callable[[FilePath], FilePath]], FilePath], profile: Callable[..., str]
) -> None:
    prm = made(vllm_server.head_prm)
    pooling = ("--runner", "pooling", "--pooler-config", '{"task": "classify"}', "--max-model-len", "512")
    with vllm_server.serve(prm, *pooling) as server:
        served = served_prm_head(str(prm), base_url=server.url)
        before = server.prefix_cache()
        assert scores(served, PATHS) == pytest.approx(scores(prm_head(str(prm), device="cpu"), PATHS), abs=1e-4)
        asked, found = (after - start for after, start in zip(server.prefix_cache(), before, strict=True))
        assert found > asked / 2
        assert_same(prm, profile("qwen2_5_math_prm", served_as=None), server, PATHS)


def test_the_architecture_of_qwen_s_prm_by_our_class_in_the_server(
    made: Callable[[Callable[[FilePath], FilePath]], FilePath], profile: Callable[..., str]
) -> None:
    prm = made(vllm_server.qwen_prm)
    published = profile("qwen2_5_math_prm")
    with vllm_server.serve(prm, *options(published), "--max-model-len", "512") as server:
        by_profile = served_prm_profiled(str(prm), profile=published, base_url=server.url)
        assert scores(by_profile, PATHS) == pytest.approx([twin(prm, path) for path in PATHS], abs=1e-4)
        served = served_prm_head(str(prm), base_url=server.url)
        assert scores(served, PATHS) == pytest.approx([twin(prm, path) for path in PATHS], abs=1e-4)
        before = server.prefix_cache()
        arguments = {"prm": str(prm), "prm_profile": published, "prm_base_url": server.url}
        asked = {"pretrained": str(folder(llava)), "device": "cpu", "thinking": "slow", "max_steps": 3, **arguments}
        (outcome,) = build(plan("transformers", asked)).run([question("How many?", picture())])
        assert isinstance(outcome, Outcome)
        assert outcome.usage.score_calls
        assert server.prefix_cache()[0] > before[0]


def twin(prm: FilePath, path: Path) -> float:
    """The published model's arithmetic, over the whole history."""
    served = served_layout(prm)
    weights = load_file(prm / "model.safetensors")
    body = Qwen2Model(Qwen2Config.from_pretrained(prm)).eval()
    body.load_state_dict(
        {name.removeprefix("model."): value for name, value in weights.items() if name.startswith("model.")}
    )
    with torch.no_grad():
        states = body(torch.tensor([served.encode(path).ids])).last_hidden_state[0, -1]
        hidden = torch.relu(weights["score.0.weight"] @ states + weights["score.0.bias"])
        logits = weights["score.2.weight"] @ hidden + weights["score.2.bias"]
    return float(logits.softmax(-1)[1])


def served_layout(prm: FilePath) -> Conversation:
    from atomthink_plugin.inference.preprocessors import load_preprocessor

    tokenizer = load_preprocessor(str(prm), images=False).tokenizer
    return Conversation(tokenizer, tokenizer.convert_tokens_to_ids("<extra_0>"))
