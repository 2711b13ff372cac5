"""The embedded model's tokenizer, labels and files."""

from __future__ import annotations

import json
import random
from itertools import islice
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast

from atomthink_plugin.formats.continuation import CONTINUE_INSTRUCTION
from atomthink_plugin.formats.cot import COT_INSTRUCTION
from atomthink_plugin.formats.steps import SEPARATOR
from atomthink_plugin.tasks.demo.figures import draw
from atomthink_plugin.tasks.demo.questions import HINT, DemoQuestion, held_out, training_stream
from atomthink_plugin.training.records import Chain, read_records
from atomthink_plugin.training.tiny.figures import Figures
from atomthink_plugin.training.tiny.files import MAKERS, write
from atomthink_plugin.training.tiny.labels import corrections, slipped_steps, verdicts
from atomthink_plugin.training.tiny.model import image_processor
from atomthink_plugin.training.tiny.tokenizer import build_tokenizer
from atomthink_plugin.training.tiny.vision import pixels_of, scaled


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer(samples=300)


@pytest.mark.parametrize(
    "text", ["\\frac{1}{2}\\,\\pi r^2", "三角形的面积是 12。", "naïve 😀\tx", "a\n\n\nb", "Step 12: Read teal = 20."]
)
def test_any_text_round_trips(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_instructions_are_one_token_and_digits_are_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    for text in (HINT, COT_INSTRUCTION, CONTINUE_INSTRUCTION, SEPARATOR):
        assert len(tokenizer(text).input_ids) == 1
    assert tokenizer.tokenize("4711") == ["4", "7", "1", "1"]


def test_steps_tokenise_piecewise_as_in_the_whole(tokenizer: PreTrainedTokenizerFast) -> None:
    for question in held_out(50):
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": question.text}], tokenize=False, add_generation_prompt=True
        )
        pieces = [f"{step}{SEPARATOR}" for step in question.steps[:-1]] + [question.steps[-1]]
        parts = [token for piece in (prompt, *pieces) for token in tokenizer(piece).input_ids]
        assert parts == tokenizer(prompt + SEPARATOR.join(question.steps)).input_ids


def test_template_takes_system_turns_and_messages_without_image(tokenizer: PreTrainedTokenizerFast) -> None:
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is 3?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "3."}]},
        {"role": "user", "content": "And 4?"},
    ]
    rendered = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert rendered == ("<|system|>Be brief.<|user|><image>What is 3?<|assistant|>3.</s><|user|>And 4?<|assistant|>")


def test_figures_are_written_as_the_image_processor_makes_them(tmp_path: Path) -> None:
    figures = Figures(tmp_path, 2, seed=1)
    figures.draw()
    for index, figure in enumerate(figures.all):
        expected = image_processor()(draw(figure), return_tensors="pt")["pixel_values"][0]
        written = tmp_path / figures.file(index)
        assert torch.allclose(scaled(pixels_of(written)), expected, atol=1e-5)
        with Image.open(written) as image:
            assert torch.equal(image_processor()(image, return_tensors="pt")["pixel_values"][0], expected)


@pytest.mark.parametrize("name", MAKERS)
def test_files_hold_what_the_trainings_read_and_nothing_held_out(tmp_path: Path, name: str) -> None:
    figures = Figures(tmp_path, 5, seed=1)
    figures.draw()
    file = write(figures, name, 40, seed=3)
    assert write(figures, name, 40, seed=4).read_text() != file.read_text()
    records = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(records) == 40
    if name != "asking":
        found = read_records(file, Chain)
        assert len(found.records) == 40
        labels = [label for chain in found.records for label in chain.labels or ()]
        if labels:
            assert 0.3 < sum(labels) / len(labels) < 0.9
    asked = [DemoQuestion.from_json(record["demo"]) for record in records if "demo" in record]
    assert (name == "asking") == bool(asked)
    assert not any(question.held_out for question in asked)


def test_gold_chains_are_right_and_slips_are_caught() -> None:
    rng = random.Random(1)
    for question in islice(training_stream(seed=8), 200):
        assert all(verdicts(question, question.steps))
        slipped = slipped_steps(question, rng)
        assert len(slipped) == len(question.steps)
        if slipped != list(question.steps) and not question.is_perimeter:
            assert not all(verdicts(question, slipped))


def test_steps_are_judged_by_what_was_stated() -> None:
    question = next(q for q in training_stream(seed=8) if len(q.steps) == 6)
    wrong = question.gold_values()
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


def test_a_correction_is_right_in_its_place() -> None:
    rng = random.Random(2)
    seen = 0
    for question in islice(training_stream(seed=9), 100):
        steps = slipped_steps(question, rng)
        right = verdicts(question, steps)
        for index, correction in enumerate(corrections(question, steps, right)):
            assert (correction is None) or not right[index]
            if correction is not None:
                seen += 1
                assert verdicts(question, [*steps[:index], correction])[index]
    assert seen > 100
