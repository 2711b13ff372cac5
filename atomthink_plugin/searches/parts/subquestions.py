"""Parts of a question: reading them from a list, and chains that answer the question with more text after it.

Shared by the searches that ask a policy about a changed question: `workflow`, `least_to_most`, `self_refine`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from atomthink_plugin.api import Path, QuestionError, SearchTree, ServerError, Unit
from atomthink_plugin.formats.parts import append

PLAN: Final = Unit("plan", tokens=512, partial=True)
"""A list of parts or sub-questions."""

_ITEM: Final = re.compile(
    r"^[ \t>#*-]{0,9}(?:(?:part|sub-?question|question)[ \t]{1,3})?\d{1,2}[.):][*_]{0,2}[ \t]{1,9}(\S.*)$",
    re.IGNORECASE | re.MULTILINE,
)


def listed(text: str) -> list[str]:
    r"""Returns the items of a numbered list, one per line, without numbers and repetitions; empty if there are none.

    Example:
        >>> listed("The parts are:\n1. Read the red bar.\n**Part 2:** Read the blue bar.\nStep 3: Add.")
        ['Read the red bar.', 'Read the blue bar.']
    """
    items = (item.strip(" \t*_") for item in _ITEM.findall(text))
    return list(dict.fromkeys(item for item in items if item))


async def answers(tree: SearchTree, additions: Sequence[str], role: str = "policy") -> list[Path]:
    """Returns a chain in the run's format for the question with each text after it, in their order.

    The chains grow together by one sample at a time, until they conclude or cannot be extended.

    Args:
        tree: Samples the chains.
        additions: The texts. A chain for an empty text starts at the tree's root.
        role: The policy that is asked.

    Returns:
        The chains. Empty if the context has no room for the first step of one of them.
    """
    asked = [
        replace(tree.question, messages=append(tree.question.messages, text)) if text else tree.question
        for text in additions
    ]
    paths = [tree.begin(question) for question in asked]
    live = [at for at, path in enumerate(paths) if not path.final]
    try:
        while live:
            families = await tree.expand([paths[at] for at in live], 1, role=role)
            grown = {at: family[0] for at, family in zip(live, families, strict=True) if family}
            for at, path in grown.items():
                paths[at] = path
            live = [at for at, path in grown.items() if not path.final]
    except ServerError:
        raise
    except QuestionError:
        return []
    return paths


def grown(tree: SearchTree, path: Path) -> bool:
    """Returns whether a chain has a step besides those that the question gives."""
    return path.depth > tree.root.depth


def text_of(path: Path) -> str:
    """Returns the steps of a chain as text for a prompt."""
    return "\n\n".join(step.text for step in path.steps)


def furthest(paths: Sequence[Path]) -> Path:
    """Returns the last path that concluded; if there is none, the last one that has a step; else the last one."""
    return max(reversed(paths), key=lambda path: (path.final, path.step is not None))
