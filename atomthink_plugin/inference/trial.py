"""The questions on which a loaded policy or process reward model is tried before the first real one."""

from __future__ import annotations

from typing import Final

from PIL import Image as Pictures

from atomthink_plugin.api import AtomThinkError, Message, Question
from atomthink_plugin.inference.checkpoint_files import first_line
from atomthink_plugin.inference.memory import out_of_memory
from atomthink_plugin.inference.model_calls import CannotForkError
from atomthink_plugin.inference.prefix_cache.reader import ACCELERATOR

_SHORT: Final = "What is shown?"
_LONG: Final = "What is shown here, and what is it good for? Name one thing, then say in a few words why you chose it."

_SIZE: Final = (224, 168)

STEPS: Final = ("Step 1: Look at what is asked.", "Step 2: Compute 1 + 1 = 2, which is the number that was asked for.")
"""Steps of a chain for such a question."""

SLACK: Final = {True: 1e-3, False: 0.3}
"""Nats by which a token's log-probability may differ where only the rounding does, in float32 and below it."""


def questions(images: bool) -> tuple[Question, Question]:
    """Returns a short question and a longer one, with an image each or with none.

    Their images differ, because some vision encoders let the images of a batch see each other.
    """
    pictures = (Pictures.new("RGB", _SIZE, "red"), Pictures.linear_gradient("L").resize(_SIZE).convert("RGB"))
    short, long = (
        Question("trial", (Message("user", (*([picture] if images else []), text)),))
        for picture, text in zip(pictures, (_SHORT, _LONG), strict=True)
    )
    return short, long


def reason_of(error: Exception) -> str:
    """Returns why a way of running a model failed in the trial, in one line.

    Raises:
        Exception: `error` itself, where no other way of running the model would help: for want of memory, or because
            the device takes nothing more from this process.
    """
    if isinstance(error, CannotForkError):
        return str(error)
    if isinstance(error, (AtomThinkError, *ACCELERATOR)) or out_of_memory(error):
        raise error
    return f"{type(error).__name__}: {first_line(error)}"
