"""A policy gives what its model's own `generate` gives, by a slower way where it must, or refuses before a question."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from packaging.version import Version
from transformers import AddedToken, LlavaForConditionalGeneration, LlavaModel, LlavaProcessor, Qwen2_5_VLProcessor
from transformers import __version__ as transformers_version

from atomthink_plugin.api import AtomThinkError, Path, QuestionError, Sampling
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.formats.direct import Direct
from atomthink_plugin.inference.checkpoints import load_multimodal
from atomthink_plugin.inference.encoding import Encoder, collate
from atomthink_plugin.inference.model_calls import CannotForkError
from atomthink_plugin.inference.slots.running_batch import RunningBatch
from atomthink_plugin.model_adapters.transformers_policy import TransformersPolicy, transformers_policy
from tests.model_adapters.test_transformers_policy import ALL, GREEDY, QUESTIONS, plain
from tests.policy_prompts import ask, ask_each
from tests.rare_models import pi0
from tests.tiny_models import chain, folder, llava, llava_next, mllama, picture, question, qwen, t5gemma2

Forward = Callable[..., Any]


def replace_forward(monkeypatch: pytest.MonkeyPatch, wrap: Callable[[Forward, Any, dict[str, Any]], Any]) -> None:
    """Makes LLaVA's forward pass what `wrap` makes of the real one, the model and its keyword arguments."""
    real = LlavaForConditionalGeneration.forward

    @functools.wraps(real)
    def forward(self: Any, *args: Any, **named: Any) -> Any:
        assert not args
        return wrap(real, self, named)

    monkeypatch.setattr(LlavaForConditionalGeneration, "forward", forward)


def sees_padding(real: Forward, model: Any, named: dict[str, Any]) -> Any:
    """Attends to every token, padding included."""
    return real(model, **{name: value for name, value in named.items() if name != "attention_mask"})


def no_text_in_parts(real: Forward, model: Any, named: dict[str, Any]) -> Any:
    """Cannot give the logits of several tokens, which only reading in parts asks for."""
    keep = named.get("logits_to_keep", 1)
    if isinstance(keep, torch.Tensor) or keep > 1:
        raise IndexError("the shape of the mask does not match")
    return real(model, **named)


def images_only(real: Forward, model: Any, named: dict[str, Any]) -> Any:
    """Cannot begin without an image, as Kosmos-2."""
    caches = [cache for name in ("cache", "past_key_values") if (cache := named.get(name)) is not None]
    if not (named["input_ids"] == model.config.image_token_id).any() and not any(
        cache.get_seq_length() for cache in caches
    ):
        raise ValueError("You have to specify `pixel_values`.\nAnd more lines.")
    return real(model, **named)


def load(build: Any = llava, **arguments: Any) -> TransformersPolicy:
    return transformers_policy(str(folder(build)), device="cpu", **arguments)


def refuse(*given: Any) -> None:
    raise CannotForkError("its attention slides over 24 tokens")


@pytest.fixture(scope="module")
def replies() -> list[list[int]]:
    """What plain `generate` replies to each question alone, before anything is replaced."""
    made = []
    for asked in QUESTIONS:
        model, _, inputs = plain(llava, asked)
        output = model.generate(**inputs, max_new_tokens=12, do_sample=False)
        made.append(output[0, inputs["input_ids"].shape[1] :].tolist())
    return made


def asked_together(policy: TransformersPolicy) -> list[list[int]]:
    """What a policy replies to all questions at once."""
    return [list(one.steps[0].token_ids) for one in ask(policy, Direct(), [Path(q) for q in QUESTIONS], GREEDY)]


def warnings(caplog: Any) -> list[str]:
    """What was logged as a warning; another test may have switched lower levels on."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@contextmanager
def counted(model: Any) -> Iterator[list[int]]:
    """The rows of each forward pass inside."""
    rows: list[int] = []
    handle = model.register_forward_pre_hook(
        lambda _, __, named: rows.append(len(named["input_ids"])), with_kwargs=True
    )
    try:
        yield rows
    finally:
        handle.remove()


@ALL
def test_models_that_need_no_fallback_keep_their_caches_and_their_batches(build: Any, caplog: Any) -> None:
    if build is mllama and Version(transformers_version) < Version("5.18"):
        pytest.skip("transformers before 5.18 reads its prompts at once only")
    policy = load(build, batch_size=32)
    assert policy.decoding == ("slots" if build in (llava, llava_next, qwen) else "forking")
    assert not warnings(caplog)
    with counted(policy._checkpoint.model) as rows:
        ask(policy, Direct(), [Path(q) for q in QUESTIONS], Sampling(max_tokens=4))
    assert max(rows) > 1


def test_the_trial_takes_few_forward_passes_and_leaves_no_states() -> None:
    policy = TransformersPolicy(load_multimodal(str(folder(llava)), device="cpu"))
    with counted(policy._checkpoint.model) as rows:
        policy.check()
    assert 0 < len(rows) <= 80
    assert policy._decoder._reader.tree.size == 0  # type: ignore[attr-defined]


def test_a_model_that_sees_padding_gets_a_forward_pass_for_each_row(
    monkeypatch: pytest.MonkeyPatch, caplog: Any, replies: list[list[int]]
) -> None:
    replace_forward(monkeypatch, sees_padding)
    policy = load(batch_size=32, cache_gib=0)
    assert policy.decoding == "prefill in single rows"
    assert len(warnings(caplog)) == 1
    assert asked_together(policy) == replies
    with counted(policy._checkpoint.model) as rows:
        ask(policy, Direct(), [Path(q) for q in QUESTIONS], Sampling(temperature=1.0, max_tokens=3), 2)
    assert set(rows) == {1}


def test_a_model_that_mixes_the_images_of_a_batch_gets_a_forward_pass_for_each_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The vision encoder of MiniMax M3 VL does so with transformers 5.16."""
    real = LlavaModel.get_image_features

    @functools.wraps(real)
    def mixed(self: Any, pixel_values: torch.Tensor, *args: Any, **named: Any) -> Any:
        return real(self, pixel_values + pixel_values.mean(dim=0, keepdim=True), *args, **named)

    monkeypatch.setattr(LlavaModel, "get_image_features", mixed)
    policy = load(batch_size=32)
    asked_together(policy)
    assert policy.decoding == "prefill in single rows"


def test_a_model_that_fails_to_read_in_parts_reads_prompts_in_full(
    monkeypatch: pytest.MonkeyPatch, caplog: Any, replies: list[list[int]]
) -> None:
    replace_forward(monkeypatch, no_text_in_parts)
    policy = load(batch_size=32)
    assert policy.decoding == "prefill"
    assert "IndexError" in caplog.text
    assert asked_together(policy) == replies
    with counted(policy._checkpoint.model) as rows:
        ask(policy, Direct(), [Path(q) for q in QUESTIONS], GREEDY)
    assert max(rows) > 1  # batches are right, only caches are not


def test_a_cache_that_turns_out_unusable_later_is_replaced_by_a_way_that_was_tried(
    monkeypatch: pytest.MonkeyPatch, replies: list[list[int]]
) -> None:
    """Batches are tried when they are needed: until then rows shared the caches."""
    policy = load(batch_size=32)
    assert policy.decoding == "slots"
    replace_forward(monkeypatch, sees_padding)
    monkeypatch.setattr(RunningBatch, "step", refuse)
    assert asked_together(policy) == replies
    assert policy.decoding == "prefill in single rows"


def test_an_encoder_decoder_is_refused() -> None:
    with pytest.raises(AtomThinkError, match="'t5gemma2'"):
        load(t5gemma2)


def test_a_class_that_generates_no_text_is_refused() -> None:
    with pytest.raises(AtomThinkError, match="PI0ForConditionalGeneration") as caught:
        load(pi0)
    assert "pretrained=" in str(caught.value)


def test_a_model_that_does_not_return_its_prompt_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = LlavaForConditionalGeneration.generate

    def generate(self: Any, input_ids: torch.Tensor, **named: Any) -> torch.Tensor:
        output: torch.Tensor = real(self, input_ids=input_ids, **named)
        return output[:, 1:]

    monkeypatch.setattr(LlavaForConditionalGeneration, "generate", generate)
    with pytest.raises(AtomThinkError, match="LlavaForConditionalGeneration"):
        load()


def test_a_generate_that_passes_a_padding_id_on_itself_can_be_called(
    monkeypatch: pytest.MonkeyPatch, replies: list[list[int]]
) -> None:
    real = LlavaForConditionalGeneration.generate
    monkeypatch.setattr(
        LlavaForConditionalGeneration, "generate", lambda self, **named: real(self, pad_token_id=2, **named)
    )
    assert asked_together(load(cache_gib=0)) == replies


def test_a_question_that_the_model_cannot_read_fails_alone_and_in_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    replace_forward(monkeypatch, images_only)
    policy = load()
    assert not warnings(caplog)  # a model for images alone is as it should be

    given = ask_each(policy, Direct(), [Path(asked) for asked in QUESTIONS], GREEDY)
    failed = [reply for reply in given if isinstance(reply, Exception)]
    assert [type(error) for error in failed] == [QuestionError]
    assert given.index(failed[0]) == 2
    assert "0 images" in str(failed[0])
    assert "pixel_values" in str(failed[0])
    assert "\n" not in str(failed[0])


def test_a_model_whose_generate_refuses_images_does_not_answer_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    real = LlavaForConditionalGeneration.generate

    def generate(self: Any, **named: Any) -> torch.Tensor:
        if "pixel_values" in named:
            raise ValueError("The following `model_kwargs` are not used by the model: ['pixel_values']")
        output: torch.Tensor = real(self, **named)
        return output

    monkeypatch.setattr(LlavaForConditionalGeneration, "generate", generate)
    given = ask_each(load(), Direct(), [Path(asked) for asked in QUESTIONS], GREEDY)
    images = [bool(asked.images) for asked in QUESTIONS]
    assert [isinstance(reply, QuestionError) for reply in given] == images


def test_layers_that_count_blocks_from_the_first_place_are_never_padded(caplog: Any) -> None:
    """A trial is too short to show that padding changes what such layers choose."""
    checkpoint = load_multimodal(str(folder(llava)), device="cpu")
    config = checkpoint.config.get_text_config()
    config.layer_types = ["full_attention", "minimax_m3_sparse"]
    policy = TransformersPolicy(checkpoint)
    config.layer_types = ["full_attention", "full_attention"]  # what LLaVA has
    with counted(checkpoint.model) as rows:
        ask(policy, Direct(), [Path(q) for q in QUESTIONS], Sampling(max_tokens=2))
    assert set(rows) == {1}
    assert "minimax_m3_sparse" in caplog.text


def test_a_model_that_answers_nothing_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(real: Forward, model: Any, named: dict[str, Any]) -> Any:
        raise RuntimeError("mat1 and mat2 cannot be multiplied\nAnd more lines.")

    replace_forward(monkeypatch, broken)
    with pytest.raises(AtomThinkError, match="mat1 and mat2") as caught:
        load()
    assert "pretrained=" in str(caught.value)
    assert "\n" not in str(caught.value)


def process_differently(monkeypatch: pytest.MonkeyPatch, change: Callable[[Any, dict[str, Any]], Any]) -> None:
    """Makes LLaVA's processor return what `change` makes of the real one and its arguments."""
    real = LlavaProcessor.__call__
    monkeypatch.setattr(LlavaProcessor, "__call__", lambda self, **named: change(functools.partial(real, self), named))


def test_a_processor_that_takes_no_nested_images_gets_a_flat_list(
    monkeypatch: pytest.MonkeyPatch, replies: list[list[int]]
) -> None:
    def flat_only(real: Any, named: dict[str, Any]) -> Any:
        if named["images"] and isinstance(named["images"][0], list):
            raise ValueError("Nested images are only supported with `multi_page` set to `True`.")
        return real(**named)

    process_differently(monkeypatch, flat_only)
    assert asked_together(load()) == replies


def test_a_placeholder_may_be_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = load_multimodal(str(folder(llava)), device="cpu")
    processor: Any = checkpoint.processor
    processor.image_token = AddedToken("<image>", special=True)
    process_differently(
        monkeypatch, lambda real, named: (setattr(processor, "image_token", "<image>"), real(**named))[1]
    )
    encoder = Encoder(checkpoint)
    ids = encoder.encode(Direct().render(Path(question("What is <image>?", picture(0))))).tokens["input_ids"]
    assert (ids == checkpoint.model.config.image_token_id).sum() == 16


def test_inputs_with_one_number_per_token_grow_with_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_experts(real: Any, named: dict[str, Any]) -> Any:
        inputs = real(**named)
        inputs["moe_mm_token_type_ids"] = (inputs["input_ids"] == 3).long()
        return inputs

    process_differently(monkeypatch, with_experts)
    encoder = Encoder(load_multimodal(str(folder(llava)), device="cpu"))
    encoding = encoder.encode(Continue().render(chain(QUESTIONS[0], "Step 1: Compute 1 + 1 = 2.")))
    experts = encoding.tokens["moe_mm_token_type_ids"]
    assert experts.shape == encoding.tokens["input_ids"].shape
    assert int(experts.sum()) == 16


def test_lists_with_one_entry_per_image_reach_the_model_in_the_order_of_the_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def with_sizes(real: Any, named: dict[str, Any]) -> Any:
        return {**real(**named), "sizes": [image.size for image in (named["images"] or [[]])[0]] or None}

    process_differently(monkeypatch, with_sizes)
    checkpoint = load_multimodal(str(folder(llava)), device="cpu")
    encoder = Encoder(checkpoint)
    pair = question("Which?", picture(0), picture(1, (90, 40)))
    rows = [encoder.encode(Direct().render(Path(asked))) for asked in (pair, QUESTIONS[3])]
    assert collate(rows, checkpoint, "left")["sizes"] == [(56, 56), (90, 40), (30, 100)]
    assert encoder.encode(Direct().render(Path(QUESTIONS[2]))).structure != rows[0].structure


def test_a_processor_that_writes_the_first_token_itself_writes_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def begins(real: Any, named: dict[str, Any]) -> Any:
        return real(**{"add_special_tokens": False, **named, "text": [f"<s>{named['text'][0]}"]})

    checkpoint = load_multimodal(str(folder(llava)), device="cpu")
    process_differently(monkeypatch, begins)
    checkpoint.tokenizer.add_bos_token = True
    for asked in QUESTIONS:
        ids = Encoder(checkpoint).encode(Direct().render(Path(asked))).tokens["input_ids"][0].tolist()
        assert ids[0] == 0
        assert ids.count(0) == 1


def test_a_processor_that_writes_one_image_for_two_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def first_only(real: Any, named: dict[str, Any]) -> Any:
        (text,), (images,) = named["text"], named["images"]
        one = text.replace("<image>\n", "", text.count("<image>\n") - 1)
        return real(**{**named, "text": [one], "images": [images[:1]]})

    process_differently(monkeypatch, first_only)
    encoder = Encoder(load_multimodal(str(folder(llava)), device="cpu"), placeholder="<another>")
    pair = Direct().render(Path(question("Which?", picture(0), picture(1))))
    with pytest.raises(QuestionError, match="LlavaProcessor"):
        encoder.encode(pair)
    monkeypatch.undo()
    assert encoder.encode(pair).images == 2


def test_a_model_that_needs_the_modality_of_each_token_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = load_multimodal(str(folder(qwen)), device="cpu")
    prompt = Continue().render(chain(QUESTIONS[0], "Step 1: Compute 1 + 1 = 2."))
    expected = Encoder(checkpoint).encode(prompt).tokens
    real = Qwen2_5_VLProcessor.__call__

    def silent(self: Any, **named: Any) -> dict[str, Any]:
        return {name: value for name, value in real(self, **named).items() if name != "mm_token_type_ids"}

    monkeypatch.setattr(Qwen2_5_VLProcessor, "__call__", silent)
    tokens = Encoder(checkpoint).encode(prompt).tokens
    assert tokens.keys() == expected.keys()
    assert torch.equal(tokens["mm_token_type_ids"], expected["mm_token_type_ids"])


@pytest.mark.parametrize("odd", [{"patches": [[1], [2], [3]]}, {"input_ids": None}])
def test_inputs_that_are_no_tensors_are_refused(odd: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    process_differently(monkeypatch, lambda real, named: {**real(**named), **odd})
    with pytest.raises(AtomThinkError, match=f"LlavaProcessor returns .*{next(iter(odd))}"):
        load()
