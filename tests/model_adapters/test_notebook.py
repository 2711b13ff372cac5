"""Single questions from Python, with the embedded model."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import atomthink_plugin
from atomthink_plugin import ask, load, make_question
from atomthink_plugin.api import AtomThinkError, Node, Outcome, QuestionError
from atomthink_plugin.model_adapters.answer_options import answer_options
from atomthink_plugin.model_adapters.notebook import LoadedModel
from atomthink_plugin.tasks.demo.figures import draw
from atomthink_plugin.tasks.demo.questions import held_out

ITEM = held_out(3)[-1]
FIGURE = draw(ITEM)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load("atomthink_tiny", thinking="slow", search="beam")


@pytest.fixture(scope="module")
def outcome(model: LoadedModel) -> Outcome:
    return ask(model, ITEM.text, FIGURE)


def same(one: Outcome, other: Outcome) -> bool:
    """Whether two outcomes are alike but for the rounding of batches of different rows."""
    tree, others = ({node.id: node for node in outcome.nodes} for outcome in (one, other))
    scores = [(tree[name].score, others[name].score) for name in tree.keys() & others.keys()]
    return (
        (one.answer, one.steps, {*tree}) == (other.answer, other.steps, {*others})
        and one.scores == pytest.approx(other.scores, abs=1e-4)
        and all(mine == pytest.approx(theirs, abs=1e-4) for mine, theirs in scores)
    )


def test_an_answer_has_its_steps_their_scores_and_the_tree(outcome: Outcome) -> None:
    assert outcome.answer is not None
    assert len(outcome.steps) == len(outcome.scores) > 1
    assert {*outcome.steps} <= {node.text for node in outcome.nodes}


def test_it_works_where_an_event_loop_runs(model: LoadedModel, outcome: Outcome) -> None:
    async def cell() -> tuple[Outcome, Outcome]:
        return ask(model, ITEM.text, FIGURE), await model.think(make_question(ITEM.text, FIGURE))

    blocking, awaited = asyncio.run(cell())
    assert same(blocking, outcome)
    assert same(awaited, outcome)
    assert same(ask(model, ITEM.text, FIGURE), outcome)


def test_the_search_is_shown_while_it_runs(model: LoadedModel, outcome: Outcome) -> None:
    seen: list[Node] = []
    asyncio.run(model.think(make_question(ITEM.text, FIGURE), on_node=seen.append))
    latest = {node.id: node for node in seen}
    assert latest.keys() == {node.id for node in outcome.nodes}
    assert all(node.score is not None for node in latest.values() if node.rejected is None)
    assert len(seen) == len(outcome.nodes) + sum(node.score is not None for node in outcome.nodes)


def test_a_notebook_draws_the_answer_and_the_tree(model: LoadedModel, outcome: Outcome) -> None:
    html: str = outcome._repr_html_()  # type: ignore[attr-defined]
    assert ITEM.text in html
    assert all(step in html for step in outcome.steps)
    assert "data:image/webp" in html
    assert "data:image/svg+xml" in html
    assert outcome.search == {"name": "beam"}  # type: ignore[attr-defined]


def test_an_image_may_be_a_file(model: LoadedModel, outcome: Outcome, tmp_path: Path) -> None:
    FIGURE.save(tmp_path / "figure.png")
    assert same(ask(model, ITEM.text, tmp_path / "figure.png"), outcome)
    assert same(ask(model, ITEM.text, str(tmp_path / "figure.png")), outcome)


def test_choices_are_part_of_what_is_asked() -> None:
    asked = make_question("Which?", FIGURE, choices=["a cat", " 3.5 "])
    assert asked.choices == ("a cat", "3.5")
    assert asked.text == "Which?\nA. a cat\nB. 3.5"
    assert answer_options({}, asked.text) == asked.choices


def test_other_questions_have_other_ids() -> None:
    asked = [
        make_question("Which?"),
        make_question("Why?"),
        make_question("Which?", FIGURE),
        make_question("Which?", draw(held_out(1)[0])),
        make_question("Which?", choices=["a", "b"]),
        make_question("Which?", choices=["b", "a"]),
    ]
    assert len({question.id for question in asked}) == len(asked)
    assert make_question("Why?").id == asked[1].id


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((" \n",), "`text`"),
        (("What?", "no/such/figure.png"), "no/such/figure.png"),
        (("What?", Path(__file__)), Path(__file__).name),
        (("What?", Path(__file__).parent), Path(__file__).parent.name),
        (("What?", np.zeros((2, 2, 3))), "ndarray"),
    ],
)
def test_what_cannot_be_asked_is_named(model: LoadedModel, arguments: tuple[Any, ...], named: str) -> None:
    with pytest.raises(QuestionError, match=named):
        ask(model, *arguments)


@pytest.mark.parametrize("choices", [["one"], "AB", ["a", " "], [str(i) for i in range(27)]])
def test_choices_that_cannot_be_asked_are_refused(choices: Any) -> None:
    with pytest.raises(QuestionError, match="`choices="):
        make_question("Which?", choices=choices)


@pytest.mark.parametrize(
    ("name", "arguments", "named"),
    [
        ("atomthink_tyni", {}, "`atomthink_tiny`"),
        ("atomthink_tiny", {"serach": "beam"}, "`search`"),
        ("atomthink_tiny", {"max_pixels": 9}, "`max_pixels=9`"),
        ("atomthink_hf", {}, "`pretrained=`"),
    ],
)
def test_the_error_of_a_model_that_cannot_be_loaded_has_the_reason(
    name: str, arguments: dict[str, Any], named: str
) -> None:
    with pytest.raises(AtomThinkError, match=named):
        load(name, **arguments)


def test_a_journal_keeps_answers(tmp_path: Path) -> None:
    one, other = (load("atomthink_tiny", journal=str(tmp_path / folder)) for folder in "ab")
    first, second = one.runner.journal, other.runner.journal
    assert first is not None
    assert second is not None
    answered = ask(one, ITEM.text, FIGURE)
    assert len(first) == 1
    assert len(second) == 0
    nodes: list[Node] = []
    again = asyncio.run(one.think(make_question(ITEM.text, FIGURE), on_node=nodes.append))
    assert again == answered  # its seconds, too
    assert not nodes


@pytest.mark.slow
def test_the_package_is_imported_fast_and_names_are_resolved_without_the_harness() -> None:
    code = """
import sys
import atomthink_plugin
print({"PIL", "pydantic", "torch", "transformers", "lmms_eval"} & set(sys.modules))
from atomthink_plugin import load
try:
    load("atomthink_tyni")
except Exception as error:
    print(type(error).__name__)
print("lmms_eval" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["set()", "AtomThinkError", "False", ""]
    with pytest.raises(AttributeError):
        _ = atomthink_plugin.thnik
