"""The embedded model's tokenizer, rows, labels and statistics."""

from __future__ import annotations

import random
from itertools import islice

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from atomthink_plugin.formats import CONTINUE_INSTRUCTION, COT_INSTRUCTION, SEPARATOR
from atomthink_plugin.tasks.demo.figures import draw
from atomthink_plugin.tasks.demo.questions import HINT, held_out, training_stream
from atomthink_plugin.training.tiny.data import (
    IGNORED,
    Codec,
    Pool,
    collate,
    naming_rows,
    pixels_of,
    reading_rows,
    scaled,
    solving_rows,
)
from atomthink_plugin.training.tiny.evaluate import within_auc
from atomthink_plugin.training.tiny.judged import NOBODY, claim_rows, corrupted_chains
from atomthink_plugin.training.tiny.labels import corrupted_steps, verdicts
from atomthink_plugin.training.tiny.model import IMAGE_TOKENS, Size, build_model, image_processor
from atomthink_plugin.training.tiny.prm import step_loglikelihoods
from atomthink_plugin.training.tiny.tokenizer import build_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer(samples=300)


@pytest.fixture(scope="module")
def codec(tokenizer: PreTrainedTokenizerFast) -> Codec:
    return Codec(tokenizer)


@pytest.mark.parametrize(
    "text", ["\\frac{1}{2}\\,\\pi r^2", "三角形的面积是 12。", "naïve 😀\tx", "a\n\n\nb", "Step 12: Read teal = 20."]
)
def test_any_text_round_trips(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_instructions_are_one_token_and_digits_are_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    for text in (HINT, COT_INSTRUCTION, CONTINUE_INSTRUCTION, SEPARATOR):
        assert len(tokenizer(text).input_ids) == 1
    assert tokenizer.tokenize("4711") == ["4", "7", "1", "1"]


def test_steps_tokenise_piecewise_as_in_the_whole(codec: Codec) -> None:
    for question in held_out(50):
        prompt = codec.tokenizer.apply_chat_template(
            [{"role": "user", "content": question.text}], tokenize=False, add_generation_prompt=True
        )
        whole = codec.tokenizer(prompt + SEPARATOR.join(question.steps)).input_ids
        pieces = [token for step in codec.steps(question.steps) for token in step]
        assert [*codec.tokenizer(prompt).input_ids, *pieces] == [*whole, codec.end]


def test_template_takes_system_turns_and_messages_without_image(codec: Codec) -> None:
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is 3?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "3."}]},
        {"role": "user", "content": "And 4?"},
    ]
    rendered = codec.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert rendered == ("<|system|>Be brief.<|user|><image>What is 3?<|assistant|>3.</s><|user|>And 4?<|assistant|>")


def test_pixels_are_what_the_image_processor_gives() -> None:
    question = held_out(1)[0]
    expected = image_processor()(draw(question), return_tensors="pt")["pixel_values"][0]
    assert torch.allclose(scaled(pixels_of(question.figure)), expected, atol=1e-5)


def test_rows_learn_the_reply_only_and_ask_nothing_held_out(codec: Codec) -> None:
    pool = Pool(20, seed=9)
    assert not any(question.held_out for question, _ in islice(pool.questions(), 300))
    for rows in (naming_rows(codec, pool), reading_rows(codec, pool), solving_rows(codec, pool)):
        batch = collate(list(islice(rows, 6)), pad=0)
        assert batch["pixel_values"].shape == (6, 3, 112, 112)
        learned = batch["labels"] != IGNORED
        assert torch.equal(batch["labels"][learned], batch["input_ids"][learned])
        assert not learned[:, : IMAGE_TOKENS + 2].any()


def test_gold_chains_are_right_and_corrupted_steps_are_caught() -> None:
    rng = random.Random(1)
    for question in islice(training_stream(seed=8), 200):
        assert all(verdicts(question, question.steps))
        corrupted = corrupted_steps(question, rng)
        assert len(corrupted) == len(question.steps)
        if corrupted != list(question.steps):
            assert not all(verdicts(question, corrupted))


def test_steps_are_judged_by_what_was_stated() -> None:
    question = next(q for q in training_stream(seed=8) if len(q.steps) == 6)
    wrong = question.values_along()
    wrong[0] += 1
    steps = [question.expected_step(0, wrong).replace(str(wrong[0] - 1), str(wrong[0]))]
    stated = [wrong[0]]
    for index in range(1, 6):
        action = question.plan()[index]
        stated.append(question.expected_value(action, stated))
        steps.append(question.expected_step(index, stated))
    assert verdicts(question, steps) == [False, True, True, True, True, True]


def test_the_sides_of_a_perimeter_may_be_read_in_any_order_but_each_only_once() -> None:
    question = next(q for q in training_stream(seed=8) if q.is_perimeter)
    (first, one), (second, two) = question.figure.items[:2]
    swapped = [f"Step 1: Read {second} = {two}.", f"Step 2: Read {first} = {one}."]
    assert verdicts(question, swapped) == [True, True]
    twice = [f"Step 1: Read {second} = {two}.", f"Step 2: Read {second} = {two}."]
    assert verdicts(question, twice) == [True, False]
    assert verdicts(question, [f"Step 1: Read {second} = {two + 1}."]) == [False]


def test_nothing_can_be_judged_after_a_step_without_a_number() -> None:
    question = held_out(1)[0]
    steps = [question.steps[0], "Step 2: Well.", *question.steps[2:]]
    assert verdicts(question, steps) == [True] + [False] * (len(steps) - 1)


def test_auc_compares_within_a_question_only() -> None:
    assert within_auc([([0.9, 0.1], [True, False]), ([0.5, 0.5], [True, False])]) == 0.75


def test_claims_count_what_follows_the_equals_sign_and_know_the_truth(codec: Codec) -> None:
    verdicts_seen = set()
    for row in islice(claim_rows(codec, seed=5), 30):
        assert len(row.ids) == len(row.owners)
        assert row.pixels is None
        for index, right in enumerate(row.right):
            start = row.owners.index(index)
            length = row.owners.count(index)
            claim = codec.tokenizer.decode(row.ids[:start]).split(SEPARATOR)[-1]
            left, operator, operand, equals = claim.split()[-4:]
            result = {"+": int.__add__, "-": int.__sub__, "x": int.__mul__}[operator](int(left), int(operand))
            stated = codec.tokenizer.decode(row.ids[start : start + length])
            assert equals == "="
            assert stated.endswith("." + SEPARATOR)
            assert (stated == f"{result}.{SEPARATOR}") == right
            verdicts_seen.add(right)
    assert verdicts_seen == {True, False}


def test_step_likelihoods_are_those_of_a_loop_over_tokens(codec: Codec) -> None:
    torch.manual_seed(0)
    size = Size(vision_width=32, vision_layers=1, text_width=32, text_layers=1, text_mlp=32)
    model = build_model(size, codec.tokenizer).eval()
    pool = Pool(5, seed=9)
    rows = list(islice(corrupted_chains(codec, pool, seed=0), 3))
    with torch.no_grad():
        sums, real = step_loglikelihoods(model, rows, codec.tokenizer.pad_token_id)
        for row, batched, steps in zip(rows, sums, real, strict=True):
            assert row.pixels is not None
            logits = model(input_ids=torch.tensor([row.ids]), pixel_values=scaled(row.pixels[None])).logits[0]
            expected = [0.0] * len(row.right)
            for position, (token, owner) in enumerate(zip(row.ids, row.owners, strict=True)):
                if owner != NOBODY:
                    expected[owner] += logits[position - 1].log_softmax(-1)[token].item()
            assert steps.tolist() == [True] * len(expected) + [False] * (len(steps) - len(expected))
            assert batched[steps].tolist() == pytest.approx(expected, abs=1e-3)
