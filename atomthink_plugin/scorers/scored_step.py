"""What several scorers read from a path."""

from __future__ import annotations

import logging

from atomthink_plugin.api import Path, Question, Step

log = logging.getLogger(__name__)


def last_step(path: Path) -> Step:
    """Returns the step to score.

    Raises:
        ValueError: The path is a root.
    """
    if path.step is None:
        raise ValueError("the root of a search has no step to score")
    return path.step


class TextAlone:
    """Reads a question for a text-only PRM. Logs one warning when it leaves out images."""

    def __init__(self) -> None:
        self._warned = False

    def text(self, question: Question) -> str:
        """Returns the question's text."""
        if question.images and not self._warned:
            self._warned = True
            log.warning("the PRM is text-only: it scores steps without the images of their questions")
        return question.text
