"""Logs of Inspect, https://inspect.aisi.org.uk: `.eval`, a zip file, or `.json`.

A sample for each question and epoch; the epochs are the candidates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import Field

from atomthink_plugin.rollouts.readers.pictures import pictures_of
from atomthink_plugin.rollouts.readers.reader import PublishedRecord, RolloutReader
from atomthink_plugin.rollouts.readers.record_parts import TextTuple, split_thought
from atomthink_plugin.rollouts.rollout_set import RolloutCandidate, RolloutSet
from atomthink_plugin.source_rows import SourceRow

_ATTACHED: Final = "attachment://"
_VERDICTS: Final[Mapping[Any, bool]] = {"C": True, "I": False, 1: True, 0: False}
"""Values of a scorer that are right or wrong. Others, such as `P` for partly right, are no verdict."""


class _InspectMessage(PublishedRecord):
    role: str = "user"
    content: str | tuple[Mapping[str, Any], ...] = ""


class _InspectChoice(PublishedRecord):
    message: _InspectMessage


class _InspectOutput(PublishedRecord):
    model: str = ""
    choices: tuple[_InspectChoice, ...] = ()
    usage: Mapping[str, Any] | None = None


class _InspectScore(PublishedRecord):
    value: Any = None
    answer: str | None = None


class _InspectSample(PublishedRecord):
    id: str
    epoch: int
    input: str | tuple[_InspectMessage, ...]
    target: str | tuple[str, ...] = ""
    choices: TextTuple = ()
    output: _InspectOutput
    scores: Mapping[str, _InspectScore] | None = None
    metadata: Mapping[str, Any] = Field(default_factory=dict)
    attachments: Mapping[str, str] = Field(default_factory=dict)
    error: Any = None


def _read(row: SourceRow) -> list[RolloutSet]:
    found = _InspectSample.model_validate(row.fields)
    if found.error or not found.output.choices:
        raise ValueError(f"it has no output: {_reason(found.error)}")
    asked = [_InspectMessage(content=found.input)] if isinstance(found.input, str) else found.input
    parts = [part for turn in asked if turn.role == "user" for part in _parts(turn, found.attachments)]
    target = found.target if isinstance(found.target, str) else " ".join(found.target)
    return [
        RolloutSet(
            id=found.id,
            question=_joined(parts, "text"),
            candidates=(_candidate(found),),
            pictures=pictures_of([part["image"] for part in parts if part.get("type") == "image"], row.folder),
            choices=found.choices,
            gold=target or None,
            policy=found.output.model,
            record=found.metadata,
        )
    ]


def _candidate(found: _InspectSample) -> RolloutCandidate:
    parts = list(_parts(found.output.choices[0].message, found.attachments))
    text = _joined(parts, "text")
    thought, reply = split_thought(text)
    score = next(iter((found.scores or {}).values()), _InspectScore())
    tokens = (found.output.usage or {}).get("output_tokens")
    value = score.value
    return RolloutCandidate(
        reply,
        answer=score.answer if score.answer not in ("", text, reply) else None,  # some scorers log the whole reply
        correct=_VERDICTS.get(value) if isinstance(value, str | int | float) else None,
        tokens=tokens,
        thought=_joined(parts, "reasoning") or thought,
    )


def _parts(turn: _InspectMessage, attachments: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
    """Yields the parts of a message. Long ones are kept at the end of the sample."""
    parts = [{"type": "text", "text": turn.content}] if isinstance(turn.content, str) else turn.content
    for part in parts:
        yield {name: _attached(value, attachments) for name, value in part.items()}


def _attached(value: Any, attachments: Mapping[str, str]) -> Any:
    if isinstance(value, str) and value.startswith(_ATTACHED):
        key = value.removeprefix(_ATTACHED)
        if key not in attachments:
            raise ValueError(f"{value}: not in the attachments of the sample")
        return attachments[key]
    return value


def _joined(parts: Sequence[Mapping[str, Any]], kind: str) -> str:
    return "\n".join(str(part[kind]) for part in parts if part.get("type") == kind and part.get(kind))


def _reason(error: Any) -> str:
    return str(error.get("message", error)) if isinstance(error, Mapping) else str(error or "no choices")


READER: Final = RolloutReader(frozenset({"id", "epoch", "input", "output"}), _read, order="epoch")
