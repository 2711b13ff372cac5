"""Where question, steps, tags and verdicts stand, for what no published profile has."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import TypeAdapter

from atomthink_plugin.api import QuestionError
from atomthink_plugin.inference.encoding import control_tokens
from atomthink_plugin.scorers.layouts.arrangement import AskedText, LayoutTurn
from atomthink_plugin.scorers.layouts.asked import asked_turn
from atomthink_plugin.scorers.layouts.layout_encoder import LayoutEncoder
from atomthink_plugin.scorers.layouts.tagged import tagged
from atomthink_plugin.scorers.layouts.turns import turns
from atomthink_plugin.scorers.prm_profile import AskedLayout, ChatMarkup, TaggedLayout, TurnsLayout
from tests.tiny_models import tokenizer

STEPS = ["Step 1: one", "two", "Step 9: three"]
ASKED = AskedText("Q", images=2, bos="<s>")


def test_a_request_has_all_steps_so_far_and_the_last_one() -> None:
    layout = TypeAdapter(AskedLayout).validate_python(
        {
            "kind": "asked",
            "system": "Be strict.",
            "user": "{image}\n{bos}{question}|{steps}|{k}: {step}",
            "step": "({k}) {step}",
            "between": " / ",
            "begin": "Verdict: ",
        }
    )
    found = asked_turn(layout, ASKED, STEPS)
    assert found.turns == (
        LayoutTurn("system", ("Be strict.",)),
        LayoutTurn("user", (None, "\n", None, "\n<s>Q|(1) one / (2) two / (3) three|3: three")),
    )
    assert (found.role, found.begun) == ("assistant", ("Verdict: ",))
    plain = layout.model_copy(update={"system": None, "begin": "", "user": "{question}{step}"})
    found = asked_turn(plain, AskedText("Q"), STEPS)
    assert found.turns == (LayoutTurn("user", ("QStep 9: three",)),)
    assert found.begun == ()


def test_text_after_a_tag_comes_before_the_text_between_two_steps() -> None:
    layout = TypeAdapter(TaggedLayout).validate_python(
        {"kind": "tagged", "before": "{question}:", "step": "{k}. {step}{tag})", "between": " + ", "tag": "#"}
    )
    found = tagged(layout, ASKED, STEPS)
    assert (found.role, found.begun) == ("none", ("Q:1. one#) + 2. two#) + 3. three#",))


def test_verdicts_are_between_steps_and_not_after_the_last() -> None:
    layout = TypeAdapter(TurnsLayout).validate_python(
        {
            "kind": "turns",
            "question": "{image}{question}",
            "first": "First: {step}",
            "later": "{k}: {step}",
            "history": "+",
        }
    )
    found = turns(layout, ASKED, STEPS)
    assert [(turn.role, turn.parts) for turn in found.turns] == [
        ("user", (None, None, "Q")),
        ("user", ("First: Step 1: one",)),
        ("assistant", ("+",)),
        ("user", ("2: two",)),
        ("assistant", ("+",)),
        ("user", ("3: three",)),
    ]
    assert (found.role, found.begun) == ("assistant", ())


@pytest.mark.parametrize("steps", [1, 3])
def test_steps_keep_their_labels_where_the_template_writes_none(steps: int) -> None:
    layout = TypeAdapter(TaggedLayout).validate_python({"kind": "tagged", "tag": "#", "between": "\n"})
    assert tagged(layout, ASKED, STEPS[:steps]).begun == ("Q" + "\n".join(f"{step}#" for step in STEPS[:steps]),)


@pytest.mark.parametrize("ids", [[5, 7, 5, 7, 5], [5, 7, 5, 5, 7, 7, 7], [5, 5, 5, 7], [5, 5, 5]])
def test_an_input_needs_a_tag_after_each_step_and_one_at_its_end(ids: list[int]) -> None:
    profile = SimpleNamespace(layout=None)
    encoder: Any = SimpleNamespace(_profile=profile, _tag_id=7, _tag="#", _tag_inside=lambda: QuestionError("inside"))
    LayoutEncoder._check_tags(encoder, [4, 7, 5, 7, 6, 7], [4, 7], 2)  # the tag in the question is none of a step
    with pytest.raises(QuestionError):
        LayoutEncoder._check_tags(encoder, ids, [4], 2)


def test_a_beginning_of_a_sequence_in_the_text_is_not_added_again() -> None:
    layout = TypeAdapter(TaggedLayout).validate_python({"kind": "tagged", "tag": "#"})
    encoder: Any = SimpleNamespace(_profile=SimpleNamespace(layout=layout), _bos="<s>")
    assert not LayoutEncoder._adds_specials(encoder, "<s>Q")
    assert LayoutEncoder._adds_specials(encoder, "Q")
    said = layout.model_copy(update={"role": "assistant"})
    markup = said.model_copy(update={"chat": ChatMarkup(user="{text}", assistant="{text}", header="")})
    for chat, added in ((said, False), (markup, True)):  # a chat template writes it itself
        encoder._profile = SimpleNamespace(layout=chat)
        assert LayoutEncoder._adds_specials(encoder, "Q") == added
    without: Any = SimpleNamespace(_profile=SimpleNamespace(layout=layout), _bos="")
    assert LayoutEncoder._adds_specials(without, "Q")


def test_blanks_around_questions_and_steps_are_left_out() -> None:
    encoder: Any = SimpleNamespace(_control=control_tokens(tokenizer([]), None))
    assert LayoutEncoder._clean(encoder, " \nStep 1: a  b\n\n") == "Step 1: a  b"
