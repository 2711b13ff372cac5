"""What every scorer asks of a path."""

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
    """What a PRM that reads text alone takes of a question; that its images are left out is said once."""

    def __init__(self) -> None:
        self._said = False

    def text(self, question: Question) -> str:
        """Returns the question's text."""
        if question.images and not self._said:
            self._said = True
            log.warning("the PRM reads text alone: it scores steps without their questions' images")
        return question.text
