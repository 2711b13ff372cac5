from __future__ import annotations

import pytest

from atomthink_plugin.rollouts.rollout_set import RolloutCandidate, RolloutSet
from atomthink_plugin.rollouts.step_split import split_text, with_steps
from atomthink_plugin.scorers.prm_profile import Split

TEXT = "Step 1: Read.\nRed is 4.\n\n**Step 2:** As in step 1, add.\n \nThe answer is 5.\n"


@pytest.mark.parametrize(
    ("split", "steps"),
    [
        ("blank_line", ("Step 1: Read.\nRed is 4.", "**Step 2:** As in step 1, add.", "The answer is 5.")),
        ("line", ("Step 1: Read.", "Red is 4.", "**Step 2:** As in step 1, add.", "The answer is 5.")),
        ("step_number", ("Step 1: Read.\nRed is 4.", "**Step 2:** As in step 1, add.\n \nThe answer is 5.")),
        ("none", (TEXT.strip(),)),
    ],
)
def test_a_text_is_split_where_it_says(split: Split, steps: tuple[str, ...]) -> None:
    assert split_text(TEXT, split) == steps


def test_steps_of_the_file_are_kept() -> None:
    known = (RolloutCandidate("a\nb", ("a b",)), RolloutCandidate("a\nb", ()))
    asked = RolloutSet("q", "?", (*known, RolloutCandidate("a\nb"), RolloutCandidate("")))
    assert [one.steps for one in with_steps(asked, "line").candidates] == [("a b",), (), ("a", "b"), ()]
