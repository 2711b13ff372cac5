"""Where question, steps, tags and verdicts stand, for what no published profile has."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter

from atomthink_plugin.scorers.layouts.arrangement import AskedText, LayoutTurn
from atomthink_plugin.scorers.layouts.asked import asked_turn
from atomthink_plugin.scorers.layouts.tagged import tagged
from atomthink_plugin.scorers.layouts.turns import turns
from atomthink_plugin.scorers.prm_profile import AskedLayout, TaggedLayout, TurnsLayout

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


def test_text_behind_a_tag_stands_before_the_text_between_two_steps() -> None:
    layout = TypeAdapter(TaggedLayout).validate_python(
        {"kind": "tagged", "before": "{question}:", "step": "{k}. {step}{tag})", "between": " + ", "tag": "#"}
    )
    found = tagged(layout, ASKED, STEPS)
    assert (found.role, found.begun) == ("none", ("Q:1. one#) + 2. two#) + 3. three#",))


def test_verdicts_stand_between_steps_and_not_behind_the_last() -> None:
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
