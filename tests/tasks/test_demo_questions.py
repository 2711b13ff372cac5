"""The demo task's questions: right, reproducible, legibly sized, and disjoint from what was trained on."""

from __future__ import annotations

import json
from importlib.resources import files
from itertools import islice

import numpy as np
import pytest

from atomthink_plugin.answers import final_answer
from atomthink_plugin.formats.steps import SEPARATOR
from atomthink_plugin.tasks.demo import figures
from atomthink_plugin.tasks.demo.figures import CELL, PALETTE, SIZE, draw
from atomthink_plugin.tasks.demo.questions import (
    COLOURS,
    DEMO_SIZE,
    HINT,
    DemoQuestion,
    Figure,
    held_out,
    stated_value,
    training_stream,
)

TRAINING = list(islice(training_stream(seed=3), 3000))
HELD_OUT = held_out(600)


def combination(question: DemoQuestion) -> tuple[object, ...]:
    """What a twin shares: the text and the values it asks about, in whatever order they are drawn."""
    values = question.figure.values
    return question.figure.kind, question.text, tuple(sorted((n, values[n]) for n in values if n in question.operands))


def test_training_and_held_out_share_no_combination() -> None:
    trained = {combination(question) for question in TRAINING}
    assert not trained & {combination(question) for question in HELD_OUT}
    assert not any(question.held_out for question in TRAINING)
    assert all(question.held_out for question in HELD_OUT)


def test_the_split_ignores_layout_and_drawing_order() -> None:
    for question in HELD_OUT[:50]:
        turned = (*question.figure.items[1:], question.figure.items[0])
        figure = Figure(question.figure.kind, turned, layout=1)
        assert DemoQuestion(figure, question.operands, question.operators).held_out


def test_seeds_give_different_questions_and_prefixes_agree() -> None:
    assert held_out(20, seed=1) != held_out(20, seed=2)
    assert held_out(20) == HELD_OUT[:20]


def test_the_shipped_questions_are_the_generators() -> None:
    text = files("atomthink_plugin.tasks.demo").joinpath("questions.jsonl").read_text(encoding="utf-8")
    records = [json.loads(line) for line in text.splitlines()]
    assert records == [json.loads(json.dumps(question.to_json())) for question in HELD_OUT[:DEMO_SIZE]]


@pytest.mark.parametrize("question", HELD_OUT[:60], ids=lambda q: q.text[:40])
def test_a_gold_chain_leads_to_the_answer(question: DemoQuestion) -> None:
    assert DemoQuestion.from_json(json.loads(json.dumps(question.to_json()))) == question
    assert question.text.endswith(HINT)
    assert len(question.steps) >= 5
    for number, step in enumerate(question.steps, start=1):
        assert step.startswith(f"Step {number}: ")
        assert SEPARATOR not in step
        assert stated_value(step) is not None
    assert final_answer(question.steps[-1]) == str(question.answer)
    assert final_answer(question.cot) == str(question.answer)


def test_calculations_in_gold_chains_are_true() -> None:
    for question in HELD_OUT:
        for step in question.steps:
            if "Compute" in step:
                left, operator, right, _, result = step.removesuffix(".").split()[-5:]
                a, b = int(left), int(right)
                assert int(result) == {"+": a + b, "-": a - b, "x": a * b}[operator]


def test_a_step_is_expected_from_what_was_stated() -> None:
    figure = Figure("bars", (("red", 4), ("blue", 7)), layout=0)
    question = DemoQuestion(figure, ("red", "blue"), ("x",))
    assert question.expected_step(2, [5, 7]) == "Step 3: Compute 5 x 7 = 35."
    assert question.expected_step(3, [5, 7, 34]) == "Step 4: To sum up, the final answer is: 34."


@pytest.mark.slow
def test_pictures_are_reproducible_and_show_every_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "GRAIN", 0.0)
    for question in HELD_OUT[:40]:
        image = draw(question)
        assert image.size == (SIZE, SIZE)
        assert image.mode == "RGB"
        assert image.tobytes() == draw(question.figure).tobytes()
        shown = {tuple(colour) for colour in np.asarray(image).reshape(-1, 3)}
        assert all(PALETTE[name.split()[0]] in shown for name, _ in question.figure.items)


def test_pictures_have_grain_of_their_own_strength() -> None:
    deviations = [np.asarray(draw(q), dtype=float)[:4].std() for q in HELD_OUT[:40]]
    assert min(deviations) < 8
    assert 25 < max(deviations) < figures.GRAIN  # half of the noise is cut off at white


def test_all_kinds_of_figures_are_asked_about() -> None:
    assert {question.figure.kind for question in HELD_OUT} == {"bars", "polygon", "rectangles"}
    assert set(PALETTE) == set(COLOURS)
    assert SIZE % CELL == 0


def test_layout_changes_the_picture_but_not_the_question() -> None:
    figure = HELD_OUT[0].figure
    other = Figure(figure.kind, figure.items, figure.layout + 1)
    assert draw(figure).tobytes() != draw(other).tobytes()
