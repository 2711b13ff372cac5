"""The chats that a generative process reward model is asked with, made from its profile and a path."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from atomthink_plugin.api import Message, Path, Question, QuestionError
from atomthink_plugin.scorers.critic_profile import IMAGES, CriticProfile, render
from atomthink_plugin.scorers.prm_profile import ImageRule
from atomthink_plugin.scorers.scored_step import TextAlone

if TYPE_CHECKING:
    from PIL.Image import Image

_OBJECT: Final = re.compile(r"\{.*\}", re.DOTALL)


class CriticPrompts:
    """Renders the prompts of a profile.

    Only the question as the policy sees it is available here. A `Question` has no reference answer, so that none can
    be in a prompt.

    Args:
        profile: The profile.
    """

    def __init__(self, profile: CriticProfile) -> None:
        self._rule = profile.images
        asked = (profile.critique, profile.critique.facts, profile.critique.thought)
        self._blind = not any("images" in one.prompt for one in asked if one is not None)
        self._alone = TextAlone()

    def values(self, path: Path, **more: Any) -> dict[str, Any]:
        """Returns the values of a template for the last step of `path`.

        Args:
            path: The steps.
            more: Values that replace the default ones.
        """
        steps = tuple(step.text for step in path.steps)
        shown: dict[str, Any] = {
            "question": path.question.text,
            "images": IMAGES,
            "steps": steps,
            "step": steps[-1] if steps else "",
            "k": len(steps),
            "verdicts": (),
            "thought": "",
            "facts": "",
        }
        return shown | more

    def system(self, text: str | None) -> tuple[Message, ...]:
        """Returns the system turn, or nothing without a text."""
        return () if text is None else (Message("system", (text,)),)

    def user(self, template: str, values: Mapping[str, Any], question: Question) -> Message:
        """Returns a user turn with the question's images where the template has them.

        Raises:
            QuestionError: The question has more images than the profile allows.
        """
        before, marker, after = render(template, values).partition(IMAGES)
        if not marker:
            if self._blind:
                self._alone.text(question)  # warns if the question has images
            return Message("user", (before,))
        images = _chosen(self._rule, question.images)
        return Message("user", (*_some(before), *images, *_some(after.replace(IMAGES, ""))))


def _some(text: str) -> tuple[str, ...]:
    return (text,) if text else ()


def _chosen(rule: ImageRule, images: Sequence[Image]) -> tuple[Image, ...]:
    if rule.most is not None and len(images) > rule.most:
        raise QuestionError(f"the question has {len(images)} images, and the PRM's profile allows {rule.most}")
    if rule.use == "none":
        return ()
    return tuple(images[:1] if rule.use == "first" else images)


def json_object(text: str) -> str | None:
    """Returns the JSON object in a reply, in one line; None if there is none."""
    found = _OBJECT.search(text)
    try:
        read = json.loads(found[0]) if found else None
    except ValueError:
        return None
    return json.dumps(read, ensure_ascii=False) if isinstance(read, dict) else None


def stated(text: str, verdict: Sequence[str]) -> int | None:
    """Returns the index of the verdict with which a text begins, None if it begins with none or with several.

    A text may be cut inside a verdict.

    Example:
        >>> stated(" Yes, it is", (" Yes", " No"))
        0
        >>> stated("-", ("1", "-1"))
        1
        >>> stated("It is right", ("Yes", "No")) is None
        True
    """
    said = text.strip().casefold()
    names = [name.strip().casefold() for name in verdict]
    found = [at for at, name in enumerate(names) if said and (said.startswith(name) or name.startswith(said))]
    return found[0] if len(found) == 1 else None
