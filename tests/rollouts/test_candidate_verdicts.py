"""Who judges a candidate: its file, the rules of a benchmark, or equivalence with the right answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.rollouts.candidate_verdicts import BY_RULES, FROM_FILE, judge_candidates
from atomthink_plugin.rollouts.rollout_set import RolloutCandidate, RolloutSet


def asked(*candidates: RolloutCandidate, **fields: object) -> RolloutSet:
    return RolloutSet("q", "Which?", candidates, **fields)  # type: ignore[arg-type]


def verdicts(one: RolloutSet, task: str | None = None) -> list[bool | None]:
    (judged,) = judge_candidates([one], task).sets
    return [candidate.correct for candidate in judged.candidates]


@pytest.mark.parametrize(
    ("gold", "choices", "reply", "right"),
    [
        ("0.5", (), "The answer is 1/2.", True),
        ("0.5", (), "\\boxed{\\frac{1}{2}}", True),
        ("0.5", (), "The answer is 2.", False),
        ("0.5", (), "I add the two numbers, which are written above the table of the first figure", False),
        ("B", ("red", "blue"), "The answer is blue.", True),
        ("B", ("red", "blue"), "B", True),
        ("B", ("red", "blue"), "A", False),
        ("blue", ("red", "blue"), "The answer is B.", True),
        ("blue", ("red", "blue"), "The answer is A.", False),
        ("blue", ("red", "blue"), "(B)", True),
    ],
)
def test_equivalence_compares_options_by_letter_and_by_text(
    gold: str, choices: tuple[str, ...], reply: str, right: bool
) -> None:
    assert verdicts(asked(RolloutCandidate(reply), gold=gold, choices=choices)) == [right]


def test_the_file_comes_first_and_every_judge_is_counted() -> None:
    known, unknown = RolloutCandidate("5", correct=True), RolloutCandidate("4")
    judged = judge_candidates([asked(known, unknown, unknown, gold="4"), asked(known, gold=None)])
    assert judged.by == {FROM_FILE: 2, BY_RULES: 2}
    assert [[one.correct for one in each.candidates] for each in judged.sets] == [[True, True, True], [True]]
    assert judged.rejects == ()


def test_a_question_that_nobody_can_judge_is_rejected() -> None:
    judged = judge_candidates([asked(RolloutCandidate("4", correct=True), RolloutCandidate("4"))])
    assert judged.sets == ()
    assert judged.by == {}
    assert [reject.where for reject in judged.rejects] == ["question 'q'"]


MATHVISION = {"id": "1", "question": "Which?", "options": ["A", "B"], "answer": "B", "level": 1}


def test_the_rules_of_the_named_benchmark_get_its_record() -> None:
    one = asked(RolloutCandidate("\\boxed{B}"), RolloutCandidate("\\boxed{A}"), record=MATHVISION)
    assert verdicts(one, "mathvision") == [True, False]
    assert verdicts(replace(one, benchmark="mathvision")) == [True, False]
    assert verdicts(replace(one, benchmark="mathvista"), "mathvision") == [True, False]
    judged = judge_candidates([one, asked(RolloutCandidate("B"), record={})], "mathvision")
    assert judged.by == {"the rules for mathvision": 2}
    assert len(judged.rejects) == 1
    with pytest.raises(AtomThinkError, match="mathvision"):
        judge_candidates([one], "mathvisoin")


def test_the_rules_get_the_answer_in_the_form_that_the_question_asks_for() -> None:
    stated = RolloutCandidate("A is too long, so I choose the second one.", answer="B")
    one = replace(asked(stated, record=MATHVISION), question="Which? Put your answer in \\boxed{}.")
    assert verdicts(one, "mathvision") == [True]
