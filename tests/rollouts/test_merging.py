"""Records of one question are joined, whatever their order and number."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.rollouts.merging import merge_sets, question_digest
from atomthink_plugin.rollouts.rollout_set import RolloutCandidate, RolloutSet


def record(name: str, *texts: str, question: str | None = None, **fields: object) -> RolloutSet:
    asked = f"Question {name}?" if question is None else question
    return RolloutSet(name, asked, tuple(map(RolloutCandidate, texts)), **fields)  # type: ignore[arg-type]


named = st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.text(max_size=3), min_size=1, max_size=3)), max_size=12)


@given(named, st.booleans())
def test_candidates_keep_the_order_of_the_records_with_ids_and_without(
    parts: list[tuple[str, list[str]]], with_ids: bool
) -> None:
    records = [record(name if with_ids else "", *texts, question=f"Question {name}?") for name, texts in parts]
    merged, rejects = merge_sets([(str(at), one) for at, one in enumerate(records)])
    assert rejects == []
    first_seen = list(dict.fromkeys(name for name, _ in parts))
    assert [one.question for one in merged] == [f"Question {name}?" for name in first_seen]
    for name, one in zip(first_seen, merged, strict=True):
        expected = [text for other, texts in parts if other == name for text in texts]
        assert [candidate.text for candidate in one.candidates] == expected
    assert len({one.id for one in merged}) == len(merged)
    assert all(one.id for one in merged)


@given(st.data())
def test_a_digest_separates_texts_and_images(data: st.DataObject) -> None:
    pictures = st.lists(st.one_of(st.binary(max_size=2), st.sampled_from([Path("a.png"), Path("b.png")])), max_size=3)
    first, second = (
        record("", question=data.draw(st.text(max_size=3)), pictures=tuple(data.draw(pictures))) for _ in range(2)
    )
    same = (first.question, first.pictures) == (second.question, second.pictures)
    as_bytes = [
        [str(picture).encode() if isinstance(picture, Path) else picture for picture in one.pictures]
        for one in (first, second)
    ]
    if same:
        assert question_digest(first) == question_digest(second)
    elif first.question != second.question or as_bytes[0] != as_bytes[1]:
        assert question_digest(first) != question_digest(second)


def test_what_one_record_lacks_comes_from_another() -> None:
    full = record("a", "y", gold="4", choices=("3", "4"), policy="B", record={"pid": 1}, pictures=(b"x",))
    first, last = record("a", "x", policy="A"), record("a", "z", policy="A")
    (one,), rejects = merge_sets([("1", first), ("2", full), ("3", last)])
    assert rejects == []
    assert (one.gold, one.choices, one.pictures) == ("4", ("3", "4"), (b"x",))
    assert (one.policy, one.record) == ("A, B", {"pid": 1})


def test_contradicting_records_are_rejected_and_spacing_is_no_contradiction() -> None:
    records = [
        ("1", record("a", "x", gold="4")),
        ("2", record("a", "y", question="Question  a?\n")),
        ("3", record("a", "z", question="Another?")),
        ("4", record("a", "z", gold="5")),
    ]
    (one,), rejects = merge_sets(records)
    assert [candidate.text for candidate in one.candidates] == ["x", "y"]
    assert [reject.where for reject in rejects] == ["3", "4"]


def test_scores_need_the_candidate_that_they_belong_to() -> None:
    scores = RolloutSet("a", "", (RolloutCandidate("x", scores={"prm": (0.5,)}),))
    unknown = RolloutSet("a", "", (RolloutCandidate("never sampled", scores={"prm": (0.5,)}),))
    other = RolloutSet("b", "", scores.candidates)
    known = RolloutSet("a", "Question a?", (RolloutCandidate("x", scores={"own": (0.1,)}), RolloutCandidate("y")))
    records = [("1", scores), ("2", unknown), ("3", other), ("4", known)]
    (one,), rejects = merge_sets(records)
    assert [dict(candidate.scores) for candidate in one.candidates] == [{"own": (0.1,), "prm": (0.5,)}, {}]
    assert [reject.where for reject in rejects] == ["2", "3"]


def test_questions_of_one_text_with_other_images_stay_apart() -> None:
    merged, rejects = merge_sets([(str(at), record("", "x", question="?", pictures=(b"%d" % at,))) for at in range(2)])
    assert (len(merged), rejects) == (2, [])


def test_a_question_may_be_an_image_alone() -> None:
    merged, rejects = merge_sets([("1", record("a", "x", question="", pictures=(b"x",)))])
    assert (len(merged), rejects) == (1, [])
