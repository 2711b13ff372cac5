"""The layout of LLaVA-CoT-100k (arXiv 2411.10440): rows of turns whose replies have four tagged stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from atomthink_plugin import api
from atomthink_plugin.api import Question, Step
from atomthink_plugin.formats.stages import STAGES, TAG, Stages
from atomthink_plugin.formats.steps import SEPARATOR
from atomthink_plugin.json_rows import Reject, describe_error
from atomthink_plugin.source_rows import SourceRow
from atomthink_plugin.text_fields import MaybeText, Text
from atomthink_plugin.training.images import PLACEHOLDER
from atomthink_plugin.training.records import Chain


class Turn(BaseModel):
    """A turn of a published conversation."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    role: str | None = Field(None, alias="from")
    value: MaybeText = ""


class _Row(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)

    id: Text
    conversations: list[Turn]


def has_stages(fields: Mapping[str, Any]) -> bool:
    """Returns whether a row is one of LLaVA-CoT-100k: one of its turns has a tag of a stage."""
    turns = fields.get("conversations")
    values = [turn.get("value") for turn in turns if isinstance(turn, dict)] if isinstance(turns, list) else []
    return any(isinstance(value, str) and TAG.search(value) for value in values)


def chains_of(row: SourceRow, images: Sequence[str]) -> Iterator[Chain | Reject]:
    """Yields a chain for each question and reply of a row, or why they cannot be used.

    Earlier turns are not part of a chain. `hints`, which the authors' teacher was given, are not kept.

    Args:
        row: The row.
        images: Its images.

    Raises:
        ValueError: The row has not the fields of the layout, or its turns do not alternate.
    """
    found = _Row.model_validate(row.fields)
    roles = [turn.role for turn in found.conversations]
    if not roles or roles != ["human", "gpt"] * (len(roles) // 2):
        raise ValueError(f"the roles are {roles}, not human and gpt in turn")
    pairs = list(zip(found.conversations[::2], found.conversations[1::2], strict=True))
    for number, (human, gpt) in enumerate(pairs, start=1):
        several = len(pairs) > 1
        try:
            steps = stages_in(gpt.value)
            question = human.value.replace(PLACEHOLDER, "").strip()
            answer = Stages().answer(steps[-1]) or ""
            name = f"{found.id}/{number}" if several else found.id
            yield Chain(id=name, question=question, images=tuple(images), steps=steps, answer=answer, format="stages")
        except ValueError as error:
            where = f"{row.where}, reply {number}" if several else row.where
            yield Reject(where, describe_error(error), row.fields)


def stages_in(reply: str) -> tuple[str, ...]:
    """Returns the four stages of a reply, with one blank inside each tag.

    Raises:
        ValueError: A stage is missing, empty or not in its place, or there is other text.
    """
    steps: list[str] = []
    rest = reply
    for stage in STAGES:
        before, _, rest = rest.partition(f"<{stage}>")
        inner, end, rest = rest.partition(f"</{stage}>")
        if not end:
            raise ValueError(f"the reply has no <{stage}> with its end in its place")
        if before.strip():
            raise ValueError(f"the reply has other text before <{stage}>")
        steps.append(f"<{stage}> {inner.strip()} </{stage}>")
    if rest.strip():
        raise ValueError(f"the reply has other text after </{STAGES[-1]}>")
    require_stages(steps)
    return tuple(steps)


def require_stages(steps: Sequence[str]) -> None:
    """Raises ValueError if steps are not the four stages as a policy writes them."""
    if len(steps) != len(STAGES):
        raise ValueError(f"{len(steps)} steps: a reply has the stages {', '.join(STAGES)}")
    path = api.Path(Question("", ()))
    for name, text in zip(STAGES, steps, strict=True):
        unit = Stages().unit(path)
        if unit is not None and (fault := unit.check(text, ())):
            raise ValueError(f"{name}: {fault}")
        path = path.extend(Step(text))


def row_of(chain: Chain) -> dict[str, Any]:
    """Returns a chain of stages as a row, without its image.

    Raises:
        ValueError: The chain is no chain of stages, or has more than one image.
    """
    if chain.format != "stages":
        raise ValueError(f"`format: {chain.format}`: these rows are stages, so it has to be `stages`")
    if len(chain.images) > 1:
        raise ValueError(f"{len(chain.images)} images: a row has one")
    require_stages(chain.steps)
    reply = SEPARATOR.join(chain.steps)
    turns = [{"from": "human", "value": chain.question}, {"from": "gpt", "value": reply}]
    return {"id": chain.id, "conversations": turns}
