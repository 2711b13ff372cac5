"""VisualProcessBench (arXiv 2503.10291): every step of multimodal solutions, right, wrong or neither.

https://huggingface.co/datasets/OpenGVLab/VisualProcessBench. `image` is one file or several, relative to the records';
`response` has `steps` and, for each, `process_correctness`: 1 right, -1 wrong, 0 neutral, which counts as not labelled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from annotated_types import MinLen
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from atomthink_plugin.training.evaluate.labelled import Labelled, Place, Reader
from atomthink_plugin.training.images import Picture
from atomthink_plugin.training.records import Chain, MaybeText, Text

_LABELS: Final = {1: 1.0, -1: 0.0, 0: None}


class _Response(BaseModel):
    steps: Annotated[tuple[Text, ...], MinLen(1)]
    process_correctness: tuple[Literal[1, 0, -1], ...]


class _Picture(BaseModel):
    """As a dataset's parquet files hold it."""

    content: bytes | None = Field(None, alias="bytes")
    path: str | None = None


def _listed(value: Any) -> Any:
    return [] if value is None else value if isinstance(value, (list, tuple)) else [value]


def _parsed(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


class _Record(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)

    image: Annotated[tuple[str | _Picture, ...], BeforeValidator(_listed)]
    question: Text
    answer: MaybeText = ""
    response: Annotated[_Response, BeforeValidator(_parsed)]
    data_source: MaybeText = ""


def read(record: Mapping[str, Any], place: Place) -> Sequence[Labelled]:
    """Returns the record's chain; its subset is where its question is from."""
    found = _Record.model_validate(record)
    labels = tuple(_LABELS[value] for value in found.response.process_correctness)
    chain = Chain(
        id=str(place),
        question=found.question,
        images=tuple(_name(image) for image in found.image),
        steps=found.response.steps,
        answer=found.answer,
        labels=labels,
    )
    source = found.data_source or place.split
    pictures = tuple(_picture(image, place) for image in found.image)
    return [Labelled(chain, f"{source}: {chain.images} {found.question}", source, pictures)]


def _name(image: str | _Picture) -> str:
    return image if isinstance(image, str) else image.path or "bytes"


def _picture(image: str | _Picture, place: Place) -> Picture:
    if isinstance(image, _Picture) and image.content is not None:
        return image.content
    return place.folder / _name(image)


VISUALPROCESSBENCH: Final = Reader(frozenset({"image", "question", "response"}), read)
