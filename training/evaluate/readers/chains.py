"""Chains as every command of `training/` writes them, with labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from atomthink_plugin.answers import equivalent, final_answer
from atomthink_plugin.training.evaluate.labelled import Labelled, Place, Reader
from atomthink_plugin.training.records import Chain


def read(record: Mapping[str, Any], place: Place) -> Sequence[Labelled]:
    """Returns the record's chain; its final answer is judged where it states one and the right one is known."""
    chain = Chain.model_validate(record)
    if chain.labels is None:
        raise ValueError("labels: the chain has none")
    stated = final_answer(chain.steps[-1]) if chain.answer else None
    pictures = tuple(place.folder / image for image in chain.images)
    right = None if stated is None else equivalent(stated, chain.answer)
    return [Labelled(chain, f"{chain.images} {chain.question}", "", pictures, right)]


CHAINS: Final = Reader(frozenset({"id", "question", "steps", "labels"}), read)
