"""Joins records of one question: their candidates follow one another in the order of the records."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from atomthink_plugin.inference.image_input import Picture
from atomthink_plugin.json_rows import Reject
from atomthink_plugin.rollouts.rollout_set import RolloutSet


def merge_sets(records: Iterable[tuple[str, RolloutSet]]) -> tuple[list[RolloutSet], list[Reject]]:
    """Returns the questions in the order of their first records, and the records that do not fit the others.

    Args:
        records: Places and contents of records. Those with one id belong to one question; those without an id belong
            to one question if their texts and images are the same. One without a text adds step scores to the
            candidates with the same texts.
    """
    merged: dict[str, RolloutSet] = {}
    rejects = []
    # Scores come last: their file may be named before the one with the questions.
    for where, record in sorted(records, key=lambda placed: _has_scores_only(placed[1])):
        identity = record.id or question_digest(record)
        known = merged.get(identity)
        try:
            if _has_scores_only(record):
                merged[identity] = _with_scores(known, record)
            else:
                merged[identity] = replace(record, id=identity) if known is None else _joined(known, record)
        except ValueError as error:
            rejects.append(Reject(where, str(error), record.record))
    return list(merged.values()), rejects


def question_digest(asked: RolloutSet) -> str:
    """Returns a digest of a question's text and images. An image file counts by its name."""
    digest = hashlib.blake2b(digest_size=8)
    for part in (asked.question.encode("utf-8", "surrogatepass"), *map(_content, asked.pictures)):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _content(picture: Picture) -> bytes:
    return str(picture).encode("utf-8", "surrogateescape") if isinstance(picture, Path) else picture


def _has_scores_only(record: RolloutSet) -> bool:
    return not record.question and not record.pictures


def _joined(known: RolloutSet, record: RolloutSet) -> RolloutSet:
    if record.question.split() != known.question.split():
        raise ValueError(f"the id {known.id!r} occurred before with another question")
    if None not in (known.gold, record.gold) and known.gold != record.gold:
        raise ValueError(f"its right answer is {record.gold!r}, in an earlier record of the question {known.gold!r}")
    policies = dict.fromkeys(filter(None, (*known.policy.split(", "), *record.policy.split(", "))))
    return replace(
        known,
        candidates=(*known.candidates, *record.candidates),
        pictures=known.pictures or record.pictures,
        choices=known.choices or record.choices,
        gold=record.gold if known.gold is None else known.gold,
        policy=", ".join(policies),
        record=known.record or record.record,
    )


def _with_scores(known: RolloutSet | None, record: RolloutSet) -> RolloutSet:
    if known is None:
        raise ValueError("it has no question. Read it together with the file of the rollouts")
    scored = {candidate.text: candidate.scores for candidate in record.candidates}
    missing = scored.keys() - {candidate.text for candidate in known.candidates}
    if missing:
        raise ValueError(f"{len(missing)} of its candidates are not among those of the question {known.id!r}")
    candidates = (replace(one, scores={**one.scores, **scored.get(one.text, {})}) for one in known.candidates)
    return replace(known, candidates=tuple(candidates))
