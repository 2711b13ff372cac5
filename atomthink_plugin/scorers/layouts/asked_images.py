"""Which images of a question a profile's PRM gets."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from atomthink_plugin.api import Question, QuestionError
from atomthink_plugin.scorers.prm_profile import ImageRule

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)


class AskedImages:
    """Applies the image rule of a profile. Logs one warning when it leaves out images.

    Args:
        name: The profile's name.
        rule: Its image rule.
    """

    def __init__(self, name: str, rule: ImageRule) -> None:
        self._name = name
        self._rule = rule
        self._warned = False

    def of(self, question: Question) -> list[Image]:
        """Returns the images of `question` that the PRM gets.

        Raises:
            QuestionError: The question has more images than the profile allows.
        """
        images, most = list(question.images), self._rule.most
        if most is not None and len(images) > most and self._rule.use != "none":
            raise QuestionError(
                f"the question has {len(images)} images, and the profile {self._name!r} allows {most} (images.most)"
            )
        if self._rule.use == "all":
            return images
        kept = images[:1] if self._rule.use == "first" else []
        if len(kept) < len(images) and not self._warned:
            self._warned = True
            log.warning(
                "the profile %s has images.use=%s: steps are scored without the other images of their questions",
                self._name,
                self._rule.use,
            )
        return kept
