"""Chains as the published records: one per step for a policy (AMATH-SFT), one per label for a PRM (AMATH-PRM)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from atomthink_plugin.api import Message, Path, Question, Step
from atomthink_plugin.formats.atomic import Atomic
from atomthink_plugin.formats.steps import SEPARATOR
from atomthink_plugin.training.records import Chain, Reject

PLACE: Final = "<image>"
"""Where a picture stands in a turn."""

ATOMIC: Final = "atomic"
"""The format of the published records."""

TAG: Final = "\n" * 5
"""Behind a step that has a label, in the published records."""

Record = Mapping[str, Any]

Kind = Callable[[Chain], Iterator[Record]]
"""Makes a chain's records; raises ValueError where it cannot be one."""


@dataclass(frozen=True, slots=True)
class Records:
    """What chains come to.

    Attributes:
        of: The records of each chain that has some, in order.
        rejects: The other chains.
    """

    of: Sequence[tuple[Chain, Sequence[Record]]] = field(default=())
    rejects: Sequence[Reject] = field(default=())


def make(chains: Sequence[Chain], kind: Kind, file: str) -> Records:
    """Returns the records of all chains; those that have none are among the rejects.

    Args:
        chains: What is turned into records.
        kind: `sft` or `prm`.
        file: Where the chains are from, for the rejects.
    """
    good: list[tuple[Chain, Sequence[Record]]] = []
    rejects: list[Reject] = []
    for chain in chains:
        try:
            if PLACE in chain.question or any(PLACE in step for step in chain.steps):
                raise ValueError(f"{PLACE} stands in its text, where readers of these records look for pictures")
            good.append((chain, list(kind(chain))))
        except ValueError as error:
            rejects.append(Reject(f"{file}, id {chain.id!r}", str(error), chain.model_dump(exclude_none=True)))
    return Records(good, rejects)


def sft(chain: Chain) -> Iterator[Record]:
    """Yields one record per step: question and history in the published template, the step as the reply.

    Raises:
        ValueError: A step of the chain is labelled wrong, or the chain is to be learned in another format.
    """
    if chain.format not in (None, ATOMIC):
        raise ValueError(
            f"`format: {chain.format}`: these records ask for atomic steps; leave it out if these steps are some"
        )
    if chain.labels is not None and chain.first_error() is not None:
        raise ValueError(f"step {(chain.first_error() or 0) + 1} is labelled wrong: not to be learned")
    path = Path(Question(chain.id, (Message("user", (chain.question,)),)))
    pictures = PLACE * len(chain.images) + ("\n" if chain.images else "")
    for number, step in enumerate(chain.steps, start=1):
        prompt = "".join(str(part) for part in Atomic().render(path).messages[-1].parts)
        asked = pictures + prompt
        yield {
            "id": f"{chain.id}/{number}",
            "final_input_prompt": asked,
            "conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": step}],
            "answer": chain.answer,
            "prompt": [{"role": "user", "content": prompt}],
            "completion": [{"role": "assistant", "content": step}],
        }
        path = path.extend(Step(step))


def prm(chain: Chain) -> Iterator[Record]:
    """Yields one record per labelled step: the steps up to it, and whether it is right.

    Raises:
        ValueError: No step has a label.
    """
    labels = [(at, label) for at, label in enumerate(chain.labels or ()) if label is not None]
    if not labels:
        raise ValueError("no step has a label")
    for at, label in labels:
        yield {
            "id": f"{chain.id}/{at + 1}",
            "question": chain.question,
            "process": SEPARATOR.join(chain.steps[: at + 1]) + TAG,
            "label": ["+" if label >= 0.5 else "-"],
            "value": label,
        }
