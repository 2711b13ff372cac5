"""The policy gives what its checkpoint gives, alone or in company, and says what it cannot take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO
from pathlib import Path as FilePath
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig

from atomthink_plugin.api import (
    AtomThinkError,
    Format,
    Limits,
    Message,
    Path,
    Prompt,
    Question,
    QuestionError,
    Sampling,
    Step,
    Usage,
)
from atomthink_plugin.formats.atomic import Atomic
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.formats.direct import Direct
from atomthink_plugin.inference.encoding import Encoder
from atomthink_plugin.model_adapters.tiny import WEIGHTS
from atomthink_plugin.model_adapters.transformers_policy import TransformersPolicy, transformers_policy
from tests.policy_prompts import ask, ask_each
from tests.tiny_models import (
    causal_prm,
    chain,
    folder,
    gemma3,
    llava,
    llava_next,
    loaded,
    mllama,
    paligemma,
    picture,
    question,
    qwen,
)

ALL = pytest.mark.parametrize("build", [llava, llava_next, qwen, mllama, gemma3])
MAIN = pytest.mark.parametrize("build", [llava, qwen])

GREEDY = Sampling(max_tokens=12)

QUESTIONS = [
    question("How many?", picture(0), name="a"),
    question("What is two plus two plus two plus one?", picture(1, (90, 40)), name="b"),
    question("Text alone: what is one plus one?", name="c"),
    question("How?", picture(2, (30, 100)), name="d"),
]


def plain(build: Any, asked: Question) -> tuple[Any, Any, dict[str, torch.Tensor]]:
    """Model, processor and inputs of one question, without anything of ours."""
    processor = AutoProcessor.from_pretrained(folder(build))
    model = AutoModelForImageTextToText.from_pretrained(folder(build)).eval()
    kept = model.generation_config
    model.generation_config = GenerationConfig(eos_token_id=kept.eos_token_id, pad_token_id=kept.pad_token_id)
    content = [
        {"type": "text", "text": p} if isinstance(p, str) else {"type": "image"} for p in asked.messages[0].parts
    ]
    chat = [{"role": "user", "content": content}]
    text = processor.apply_chat_template(chat, add_generation_prompt=True)
    bos = processor.tokenizer.bos_token
    special = not (bos and text.startswith(bos))
    images = [list(asked.images)] if asked.images else None
    inputs = processor(text=[text], images=images, return_tensors="pt", add_special_tokens=special)
    return model, processor, inputs


@pytest.mark.slow
@ALL
def test_direct_gives_what_the_checkpoint_gives_without_us(build: Any) -> None:
    proposals = ask(TransformersPolicy(loaded(build)), Direct(), [Path(q) for q in QUESTIONS], Sampling(max_tokens=12))
    for asked, proposal in zip(QUESTIONS, proposals, strict=True):
        model, processor, inputs = plain(build, asked)
        output = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        (step,) = proposal.steps
        assert list(step.token_ids) == output.tolist()
        assert step.text == processor.decode(output, skip_special_tokens=True)
        assert proposal.usage.prefilled == inputs["input_ids"].shape[1]
        assert proposal.usage.images == len(asked.images)


def logprobs_from_scratch(build: Any, asked: Question, reply: tuple[int, ...]) -> torch.Tensor:
    """Log-probabilities `[tokens, vocabulary]` at each token of a reply, by one forward pass over everything."""
    model, _, inputs = plain(build, asked)
    ids = torch.tensor([reply])
    start = inputs["input_ids"].shape[1]
    longer = {"input_ids": torch.cat([inputs["input_ids"], ids], 1)}
    longer["attention_mask"] = torch.ones_like(longer["input_ids"])
    if "mm_token_type_ids" in inputs:
        longer["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(ids)], 1)
    with torch.inference_mode():
        logits: torch.Tensor = model(**{**inputs, **longer}).logits[0, start - 1 : -1]
    return torch.log_softmax(logits, -1)


@pytest.mark.slow
@MAIN
@pytest.mark.parametrize("cache_gib", [4, 0])
@pytest.mark.parametrize("heat", [0.0, 1.0])
def test_logprobs_are_those_of_a_forward_pass_from_scratch(build: Any, cache_gib: float, heat: float) -> None:
    sampling = Sampling(temperature=heat, top_k=20, top_p=0.9, max_tokens=8, seed=5, tops=3)
    paths, policy = [Path(asked) for asked in QUESTIONS], TransformersPolicy(loaded(build), cache_gib=cache_gib)
    inside = []
    for asked, proposal in zip(QUESTIONS, ask(policy, Direct(), paths, sampling), strict=True):
        (step,) = proposal.steps
        logprobs = logprobs_from_scratch(build, asked, step.token_ids)
        own = [float(logprobs[at, token]) for at, token in enumerate(step.token_ids)]
        assert step.logprob == pytest.approx(sum(own), abs=1e-3)
        assert len(step.tops) == len(step.token_ids)
        for found, chosen, position in zip(step.tops, own, logprobs, strict=True):
            assert found == pytest.approx([chosen, *position.sort(descending=True).values[:3].tolist()], abs=1e-3)
            inside.append(found[0] >= found[3])
    assert all(inside) if heat == 0 else len(set(inside)) == 2


def test_the_likeliest_tokens_change_no_sample_and_cost_nothing_unless_asked_for() -> None:
    policy, path = TransformersPolicy(loaded(llava)), Path(QUESTIONS[0])
    sampling = Sampling(temperature=1.0, max_tokens=8)
    (silent,) = ask(policy, Direct(), [path], sampling, 3)
    (told,) = ask(policy, Direct(), [path], replace(sampling, tops=5), 3)
    assert [step.tops for step in silent.steps] == [()] * 3
    assert [replace(step, tops=()) for step in told.steps] == list(silent.steps)


@dataclass(frozen=True)
class MiniSteps(Direct):
    """The reply goes on from all that was sampled, whose ends may be inside words."""

    def render(self, path: Path) -> Prompt:
        return replace(super().render(path), begun=path.steps)


def embedded(folder: FilePath) -> FilePath:
    """The embedded policy: it writes words."""
    return WEIGHTS / "policy"


@pytest.mark.slow
@pytest.mark.parametrize("build", [llava, qwen, gemma3, embedded])
@pytest.mark.parametrize("cache_gib", [4, 0])
def test_mini_steps_continue_by_their_ids(build: Any, cache_gib: float) -> None:
    """Replies in pieces of a few tokens, joined, are one long greedy reply: token for token."""
    policy = TransformersPolicy(loaded(build), cache_gib=cache_gib)
    for asked in QUESTIONS[:3]:
        (whole,) = ask(policy, Direct(), [Path(asked)], Sampling(max_tokens=24))
        expected, path = whole.steps[0].token_ids, Path(asked)
        while sum(len(step.token_ids) for step in path.steps) < len(expected):
            (proposal,) = ask(policy, MiniSteps(), [path], Sampling(max_tokens=3))
            path = path.extend(proposal.steps[0])
        assert tuple(token for step in path.steps for token in step.token_ids) == expected


@pytest.mark.parametrize("build", [llava, embedded])
def test_the_beginning_of_a_reply_has_the_ids_of_steps_and_the_text_of_placeholders(build: Any) -> None:
    encoder, words = Encoder(loaded(build)), loaded(build).tokenizer
    ids, *parts = (tuple(words.encode(t, add_special_tokens=False)) for t in ("Step 1: Compute", "Com", "pute"))
    pieces = (*parts[0], *parts[1])
    assert list(pieces) != words.encode("Compute", add_special_tokens=False)
    inside = Step("Compute", (*pieces, words.eos_token_id))
    assert encoder.split([inside, "Step 1: Compute"]) == [pieces, encoder.split(["", "Step 1: Compute"])[1]]
    assert encoder.split([Step("Step 1: Compute", (-1,) * 3), inside]) == [ids, pieces]
    assert encoder.split([Step("Step 1: Compute"), Step("", (words.eos_token_id,))]) == [ids, ()]


@pytest.mark.slow
@MAIN
@pytest.mark.parametrize("form", [Continue(), Atomic()])
def test_samples_depend_on_their_seed_alone(build: Any, form: Format) -> None:
    deeper = chain(QUESTIONS[0], "Step 1: Compute 1 + 1 = 2.", "Step 2: Compute 2 + 2 = 4.")
    paths = [*(Path(q) for q in QUESTIONS), deeper]
    sampling = Sampling(temperature=1.0, max_tokens=10, seed=3)

    def tokens(batch_size: int, order: list[Path], n: int) -> dict[tuple[str, int], list[tuple[int, ...]]]:
        proposals = ask(TransformersPolicy(loaded(build), batch_size=batch_size), form, order, sampling, n)
        named = zip(order, proposals, strict=True)
        return {(p.question.id, p.depth): [step.token_ids for step in proposal.steps] for p, proposal in named}

    together = tokens(16, paths, 3)
    assert tokens(1, paths[::-1], 3) == together
    assert tokens(2, [deeper], 2) == {("a", 2): together["a", 2][:2]}
    assert len({ids for siblings in together.values() for ids in siblings}) > 10


def grow(policy: TransformersPolicy, form: Format, paths: list[Path], levels: int) -> tuple[list[Any], Usage]:
    """Three samples per path and level, each path going on with another of them; all samples and the cost."""
    sampling, samples, spent = Sampling(temperature=1.0, rise=0.5, max_tokens=9, seed=3), [], Usage()
    for _ in range(levels):
        proposals = ask(policy, form, paths, sampling, 3)
        samples += [(step.token_ids, pytest.approx(step.logprob, abs=1e-3)) for p in proposals for step in p.steps]
        spent = sum((proposal.usage for proposal in proposals), spent)
        chosen = [proposal.steps[at % 3] for at, proposal in enumerate(proposals)]
        steps = [step if step.text.strip() else Step("Step 1: Look.") for step in chosen]
        paths = [path.extend(step, None) for path, step in zip(paths, steps, strict=True)]
    return samples, spent


@cache
def prefilled_alone(build: Any, form: Callable[[], Format]) -> tuple[list[Any], Usage]:
    """What `grow` gives without a cache, one row at a time: the slowest part of these tests, and the same in many."""
    naive = TransformersPolicy(loaded(build), batch_size=1, cache_gib=0)
    return grow(naive, form(), [Path(asked) for asked in QUESTIONS], 3)


@pytest.mark.slow
@ALL
@pytest.mark.parametrize("form", [Continue, Atomic])
@pytest.mark.parametrize("batch_size", [1, 5, 32])
def test_forked_caches_give_the_samples_of_prefilling_alone(
    build: Any, form: Callable[[], Format], batch_size: int
) -> None:
    expected, before = prefilled_alone(build, form)
    forking = TransformersPolicy(loaded(build), batch_size=batch_size)
    samples, after = grow(forking, form(), [Path(asked) for asked in QUESTIONS], 3)
    assert [ids for ids, _ in samples] == [ids for ids, _ in expected]
    assert [logprob for _, logprob in samples] == [logprob.expected for _, logprob in expected]
    assert after.images == 3  # one of the four questions has none
    assert after.prefilled + after.cached == before.prefilled
    assert after.prefilled < 0.35 * before.prefilled


def test_a_model_that_cannot_read_a_prompt_in_parts_prefills_in_full_and_logs_it(caplog: Any) -> None:
    """PaliGemma takes no question without an image, and all of its prompt sees all of it."""
    asked = [each for each in QUESTIONS if each.images]
    paths = [Path(each) for each in asked]
    policy = TransformersPolicy(loaded(paligemma), batch_size=8)
    policy.check()
    assert policy.decoding == "prefill"
    assert "cannot be forked" in caplog.text
    for each, proposal in zip(asked, ask(policy, Direct(), paths, GREEDY), strict=True):
        model, _, inputs = plain(paligemma, each)
        output = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        assert list(proposal.steps[0].token_ids) == output.tolist()
    expected, _ = grow(TransformersPolicy(loaded(paligemma), batch_size=1, cache_gib=0), Continue(), paths, 2)
    samples, _ = grow(policy, Continue(), paths, 2)
    assert [ids for ids, _ in samples] == [ids for ids, _ in expected]


def test_forgotten_caches_are_built_again() -> None:
    paths = [Path(asked) for asked in QUESTIONS]
    expected, _ = grow(TransformersPolicy(loaded(llava)), Continue(), paths, 2)
    samples, usage = grow(TransformersPolicy(loaded(llava), batch_size=4, cache_gib=1e-6), Continue(), paths, 2)
    assert [ids for ids, _ in samples] == [ids for ids, _ in expected]
    assert usage.images > 3


def test_the_first_samples_of_a_node_do_not_depend_on_how_many_are_drawn_or_in_how_many_calls() -> None:
    policy, sampling = TransformersPolicy(loaded(llava)), Sampling(1.0, max_tokens=8)
    (both,) = ask(policy, Continue(), [Path(QUESTIONS[0])], sampling, 2)
    (second,) = ask(policy, Continue(), [Path(QUESTIONS[0])], replace(sampling, first=1))
    assert second.steps[0].token_ids == both.steps[1].token_ids


def test_greedy_siblings_are_generated_once() -> None:
    (proposal,) = ask(TransformersPolicy(loaded(llava)), Direct(), [Path(QUESTIONS[0])], Sampling(max_tokens=5), 3)
    assert len(proposal.steps) == 3
    assert len(set(proposal.steps)) == 1
    assert (proposal.usage.policy_calls, proposal.usage.generated, proposal.usage.images) == (3, 5, 1)


def test_a_step_is_cut_at_the_tasks_stop_string() -> None:
    policy = TransformersPolicy(loaded(llava))
    (whole,) = ask(policy, Direct(), [Path(QUESTIONS[0])], Sampling(max_tokens=16))
    stop = whole.steps[0].text[3:5]
    asked = replace(QUESTIONS[0], limits=Limits(until=(stop,)))
    (cut,) = ask(policy, Direct(), [Path(asked)], Sampling(max_tokens=16))
    assert cut.steps[0].finish == "stop"
    assert cut.steps[0].text == whole.steps[0].text.split(stop)[0].strip()
    assert cut.usage.generated < 16


@MAIN
def test_a_paths_ids_begin_the_ids_of_its_extensions(build: Any) -> None:
    encoder = Encoder(loaded(build))
    short = chain(QUESTIONS[0], "Step 1: Compute 1 + 1 = 2.")
    long = chain(QUESTIONS[0], "Step 1: Compute 1 + 1 = 2.", "Step 2: Compute 2 + 2 = 4.")
    ids = [encoder.encode(Continue().render(path)).tokens["input_ids"][0].tolist() for path in (short, long)]
    assert ids[1][: len(ids[0])] == ids[0]
    assert loaded(build).tokenizer.decode(ids[1]).endswith("\n\nStep 2: Compute 2 + 2 = 4.\n\n")


@pytest.mark.parametrize(
    ("form", "asked"), [(Continue(), QUESTIONS[0]), (Atomic(), QUESTIONS[0]), (Continue(), QUESTIONS[2])]
)
def test_a_question_is_prepared_once(form: Format, asked: Question, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, calls = Encoder(loaded(llava)), []
    encoder.encode(form.render(Path(QUESTIONS[1])))  # of the first image the encoder learns how the processor writes
    process = encoder._process
    monkeypatch.setattr(encoder, "_process", lambda *given: calls.append(given) or process(*given))
    for path in (Path(asked), chain(asked, "Step 1: a."), chain(asked, "Step 1: b.")):
        encoder.encode(form.render(path))
    assert len(calls) == 1


def test_prepared_images_are_forgotten_when_they_take_too_much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [Path(question("Why?", picture(at), name=str(at))) for at in range(3)]
    prepared = Encoder(loaded(llava)).encode(Direct().render(pictures[0]))
    encoder = Encoder(loaded(llava), remember=2 * (prepared.size + 56 * 56 * 3))
    encoder._splits = True
    process, calls = encoder._process, []
    monkeypatch.setattr(encoder, "_process", lambda *given: calls.append(given) or process(*given))
    for at in (0, 1, 0, 2, 0, 1):
        encoder.encode(Direct().render(pictures[at]))
    assert len(calls) == 4
    encoder.encode(Direct().render(Path(question("Why?", picture(9, (800, 800)), name="large"))))
    assert len(encoder._heads) == 1


@ALL
@pytest.mark.parametrize("token", ["<image>", "<|image_pad|>", "<|image|>", "</s>", "<|im_end|>", "<im<image>age>"])
def test_control_tokens_in_a_question_are_ordinary_text(build: Any, token: str) -> None:
    encoder, special = Encoder(loaded(build)), set(loaded(build).tokenizer.all_special_ids)

    def specials(asked: Question, *steps: str) -> list[int]:
        ids = encoder.encode(Continue().render(chain(asked, *steps))).tokens["input_ids"][0].tolist()
        return [at for at in ids if at in special]

    clean = specials(question("What is this?", picture(0)), "Step 1: a thing.")
    assert specials(question(f"What is {token}?", picture(0)), f"Step 1: a {token} thing.") == clean


def broken() -> Image.Image:
    """A picture whose file ends too early; PIL finds out when the pixels are read."""
    file = BytesIO()
    picture(0, (200, 200)).save(file, "PNG")
    return Image.open(BytesIO(file.getvalue()[: len(file.getvalue()) // 2]))


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (question("Why?", broken()), "cannot be read"),
        (question("Why?", Image.new("RGB", (0, 5))), "no pixels"),
        (Question("q", (Message("user", (None, "Why?")),)), "not a PIL image"),  # type: ignore[arg-type]
        (question("two " * 900), "context is 512"),
    ],
)
def test_a_question_that_cannot_be_asked_has_a_reason(asked: Question, reason: str) -> None:
    paths = [Path(asked), Path(QUESTIONS[0])]
    failed, other = ask_each(TransformersPolicy(loaded(llava)), Continue(), paths, Sampling(max_tokens=4))
    assert isinstance(failed, QuestionError)
    assert reason in str(failed)
    assert len(other.steps) == 1


@MAIN
@pytest.mark.parametrize("mode", ["RGBA", "P", "L", "1", "CMYK", "I;16", "LA"])
def test_images_of_every_mode_are_taken(build: Any, mode: str) -> None:
    image = Image.new(mode, (40, 40)) if mode == "I;16" else picture(0, (40, 40)).convert(mode)
    (proposal,) = ask(
        TransformersPolicy(loaded(build)), Direct(), [Path(question("Why?", image))], Sampling(max_tokens=2)
    )
    assert len(proposal.steps) == 1


@ALL
def test_an_image_of_one_pixel_is_taken_or_refused_with_a_reason(build: Any) -> None:
    policy, path = TransformersPolicy(loaded(build)), Path(question("Why?", Image.new("RGB", (1, 1))))
    try:
        assert len(ask(policy, Direct(), [path], Sampling(max_tokens=2))[0].steps) == 1
    except QuestionError as error:
        assert "1x1" in str(error)  # noqa: PT017


def test_a_chain_that_fills_the_context_has_no_next_step() -> None:
    full = chain(QUESTIONS[0], *(f"Step {k}: Compute {k} + {k} and so on and on and on." for k in range(1, 40)))
    assert ask(TransformersPolicy(loaded(llava)), Continue(), [full], Sampling())[0].steps == ()


def test_the_last_step_may_be_shorter_than_asked_but_stays_in_the_context() -> None:
    policy, long = TransformersPolicy(loaded(llava)), Path(question("two " * 110))
    (proposal,) = ask(policy, Direct(), [long], Sampling(max_tokens=400))
    assert 0 < len(proposal.steps[0].token_ids) <= 512 - proposal.usage.prefilled < 400


def error_of(**arguments: Any) -> str:
    """The message of a policy that cannot be loaded."""
    with pytest.raises(AtomThinkError) as caught:
        transformers_policy(**{"pretrained": str(folder(llava)), "device": "cpu"} | arguments)
    return str(caught.value)


def copy_without(name: str, target: FilePath) -> str:
    """A copy of the LLaVA folder that lacks the files whose names contain `name`."""
    target.mkdir()
    for file in folder(llava).iterdir():
        if name not in file.name:
            (target / file.name).write_bytes(file.read_bytes())
    return str(target)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"pretrained": "/no/such/model"}, ("pretrained='/no/such/model'", "no such folder")),
        ({"pretrained": "./model"}, ("pretrained='./model'", "no such folder")),
        ({"pretrained": "nobody/nothing"}, ("pretrained='nobody/nothing'", "hub", "HF_TOKEN")),
        ({"dtype": "float17"}, ("dtype='float17'", "bfloat16")),
        ({"device": "warp:9"}, ("device='warp:9'", "cpu")),
        ({"chat_template": "/no/such/file"}, ("chat_template='/no/such/file'",)),
    ],
)
def test_arguments_that_cannot_work_are_named_with_a_way_out(
    arguments: dict[str, str], parts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = error_of(**arguments)
    assert all(part in message for part in parts), message


def test_a_text_only_model_is_no_policy() -> None:
    assert "'qwen2', which is no multimodal model" in error_of(pretrained=str(folder(causal_prm)))


def test_a_folder_without_a_checkpoint_or_a_processor_is_named(tmp_path: FilePath) -> None:
    assert "no config.json" in error_of(pretrained=str(tmp_path))
    assert "no processor" in error_of(pretrained=copy_without("processor_config", tmp_path / "copy"))


def test_remote_code_is_not_run_unasked(tmp_path: FilePath) -> None:
    name = copy_without("config.json", tmp_path / "copy")
    config = '{"model_type": "strange", "auto_map": {"AutoConfig": "strange.Config"}}'
    (tmp_path / "copy" / "config.json").write_text(config)
    (tmp_path / "copy" / "strange.py").write_text("raise SystemExit('it was run')")
    assert "trust_remote_code=True" in error_of(pretrained=name)


def test_a_missing_chat_template_can_be_given(tmp_path: FilePath) -> None:
    name = copy_without("chat_template", tmp_path / "copy")
    assert "chat_template=FILE" in error_of(pretrained=name)
    file = tmp_path / "own.jinja"
    file.write_text("<image>Q: {{ messages[0]['content'][1]['text'] }} A:")
    policy = transformers_policy(name, device="cpu", chat_template=str(file))
    assert len(ask(policy, Direct(), [Path(QUESTIONS[0])], Sampling(max_tokens=2))[0].steps) == 1
