"""The file of solved examples: one JSON object per line, as `atomthink examples build` writes it.

A file of chains, such as `chains.jsonl`, is a file of examples too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Annotated, overload

import PIL.Image
from annotated_types import MinLen
from pydantic import BaseModel, ConfigDict, ValidationError

from atomthink_plugin.api import AtomThinkError, Example
from atomthink_plugin.inference.image_input import read_image
from atomthink_plugin.text_fields import Text


class ExampleRecord(BaseModel):
    """One line of the file.

    Attributes:
        id: Names the example in messages.
        question: The text, with its options.
        images: Image files, relative to the folder of the file.
        options: The texts of the options in order.
        steps: The reply; its last step states the answer.
        answer: The final answer.
    """

    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)

    id: Text
    question: Text
    images: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    steps: Annotated[tuple[Text, ...], MinLen(1)]
    answer: Text


@dataclass(frozen=True, slots=True)
class ExampleFile:
    """The examples of a file.

    Attributes:
        examples: In the order of the file.
        digest: Of the file and of all its images.
    """

    examples: Sequence[Example]
    digest: str


@dataclass(frozen=True, slots=True)
class ImageFiles(Sequence[PIL.Image.Image]):
    """Images that are decoded when they are needed: those of all examples may not fit in memory.

    Attributes:
        files: Their files.
    """

    files: tuple[Path, ...]

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self.files)

    @overload
    def __getitem__(self, index: int) -> PIL.Image.Image: ...
    @overload
    def __getitem__(self, index: slice) -> ImageFiles: ...
    def __getitem__(self, index: int | slice) -> PIL.Image.Image | ImageFiles:
        """Returns an image in RGB; examples with the same image share it."""
        return ImageFiles(self.files[index]) if isinstance(index, slice) else _decoded(self.files[index])


@lru_cache(maxsize=64)
def _decoded(file: Path) -> PIL.Image.Image:
    return read_image(file)


def read_examples(file: Path, argument: str) -> ExampleFile:
    """Reads a file of examples.

    Args:
        file: The file.
        argument: What the user named it with, for errors: `format_examples=FILE`.

    Raises:
        AtomThinkError: The file or an image cannot be read, or a line is no example.
    """
    content = _read(file, f"`{argument}`")
    digest = hashlib.blake2b(content, digest_size=8)
    found: list[Example] = []
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        where = f"`{argument}`, line {number}"
        try:
            record = ExampleRecord.model_validate_json(line)
        except ValidationError as error:
            faults = (f"{'.'.join(map(str, fault['loc']))} {fault['msg']}".strip() for fault in error.errors())
            raise AtomThinkError(f"{where} is no example: {'; '.join(faults)}") from None
        images = tuple(file.parent / name for name in record.images)
        for image in images:
            digest.update(_read_image(image, where))
        found.append(Example(record.question, record.steps, record.answer, record.options, ImageFiles(images)))
    if not found:
        raise AtomThinkError(f"`{argument}` has no examples")
    return ExampleFile(found, digest.hexdigest())


def _read_image(file: Path, where: str) -> bytes:
    """Returns the content of an image file whose beginning can be read."""
    content = _read(file, where)
    try:
        PIL.Image.open(BytesIO(content)).verify()
    except PIL.UnidentifiedImageError:  # its text names a buffer
        raise AtomThinkError(f"{where}: {file} is no image of a known type") from None
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
        raise AtomThinkError(f"{where}: {file} cannot be read: {error}") from None
    return content


def _read(file: Path, where: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise AtomThinkError(f"{where}: {file} cannot be read: {error.strerror}") from None
