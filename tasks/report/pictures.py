"""The images of a run's questions, which neither samples nor journals hold: taken from the task's data anew."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from PIL import Image

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.tasks.discovery import install

Draw = Callable[[int], Sequence[Image.Image]]
"""Returns the images of a document by its number, or raises AtomThinkError."""

_OFFLINE: Final = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")

_LADDER: Final = ((640, 76), (480, 68), (384, 60), (320, 50), (256, 42), (192, 36), (128, 30))
"""Longest side in pixels and WebP quality, from what is worth reading to what is still recognised."""


def task_images(tasks: Iterable[str]) -> Mapping[str, Draw]:
    """Loads tasks of lmms-eval and returns for each what draws the images of its documents.

    Data sets come from this machine: a report fetches nothing, unless `HF_HUB_OFFLINE=0` says so. A task that
    cannot be loaded says why for each of its documents.
    """
    for name in _OFFLINE:
        os.environ.setdefault(name, os.environ.get(_OFFLINE[0], "1"))
    install()
    from lmms_eval.tasks import TaskManager
    from loguru import logger

    logger.disable("lmms_eval")  # it tells of every file that is no task

    manager = TaskManager()
    return {task: _drawn(task, manager) for task in tasks}


def _drawn(task: str, manager: Any) -> Draw:
    from lmms_eval.tasks import get_task_dict

    try:
        return drawing(task, get_task_dict([task], manager)[task])
    except (Exception, SystemExit) as error:  # tasks are code and data of their own
        return _refusing(f"task `{task}` cannot be loaded here ({_reason(error)})")


def drawing(task: str, loaded: Any) -> Draw:
    """Returns what draws the images of a task's documents.

    Args:
        task: Its name.
        loaded: The harness's task.
    """
    docs = loaded.eval_docs

    def draw(doc_id: int) -> Sequence[Image.Image]:
        try:
            seen = list(loaded.doc_to_visual(docs[doc_id]) or ())
            images = [one for one in seen if isinstance(one, Image.Image)]
            for image in images:
                image.load()  # many are opened lazily, and broken only when they are looked at
        except Exception as error:
            raise AtomThinkError(f"task `{task}` cannot draw it ({_reason(error)})") from error
        if seen and not images:
            raise AtomThinkError(f"task `{task}` shows a {type(seen[0]).__name__} in place of an image")
        return images

    return draw


def _refusing(reason: str) -> Draw:
    def refuse(doc_id: int) -> Sequence[Image.Image]:
        raise AtomThinkError(reason)

    return refuse


def _reason(error: BaseException) -> str:
    """The first line of what was wrong in the first place, behind the harness's retries."""
    from tenacity import RetryError

    cause = error.last_attempt.exception() if isinstance(error, RetryError) else error
    return next(iter(str(cause).splitlines()), "") or type(cause).__name__


class Thumbnails:
    """Small pictures, each kept once however many questions show it.

    Args:
        room: Bytes that all of them may take together.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self.encoded: list[bytes] = []
        self._known: dict[bytes, int] = {}
        self._rung = 0

    def add(self, image: Image.Image, share: int) -> int:
        """Returns the number of a picture; a new one is made as large as `share` bytes let it be."""
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        digest = hashlib.blake2b(repr((image.mode, image.size)).encode() + image.tobytes(), digest_size=16).digest()
        if digest not in self._known:
            self._known[digest] = len(self.encoded)
            # Pictures of a run are alike: the next one is tried at the size that fitted the last one.
            encoded, self._rung = thumbnail(image, share, self._rung)
            self.encoded.append(encoded)
            self.room -= len(encoded)
        return self._known[digest]


def thumbnail(image: Image.Image, room: int, first: int = 0) -> tuple[bytes, int]:
    """Returns an image as WebP of at most `room` bytes, or as small as it is still recognised, and its rung.

    Args:
        image: The image.
        room: Bytes it may take.
        first: The rung of `_LADDER` that is tried first; the largest that fits is found from any.
    """
    rung, encoded, large = first, _encoded(image, first), -1
    while len(encoded) > room and rung < len(_LADDER) - 1:
        size, large = min(max(image.size), _LADDER[rung][0]), rung
        # Bytes grow with the area: rungs that would be far too large again are not tried on the way down.
        rung += 1
        while rung < len(_LADDER) - 1 and len(encoded) * min(_LADDER[rung][0] / size, 1) ** 2 > 1.5 * room:
            rung += 1
        encoded = _encoded(image, rung)
    while len(encoded) <= room and rung - 1 > large and len(larger := _encoded(image, rung - 1)) <= room:
        rung, encoded = rung - 1, larger
    return encoded, rung


def _encoded(image: Image.Image, rung: int) -> bytes:
    side, quality = _LADDER[rung]
    smaller = image.copy()
    smaller.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    smaller.save(buffer, "WEBP", quality=quality, method=3)
    return buffer.getvalue()
