"""One text with a tag after each step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from atomthink_plugin.scorers.layouts.arrangement import (
    Arrangement,
    AskedText,
    LayoutTurn,
    Parts,
    fill,
    merged,
    step_values,
)
from atomthink_plugin.scorers.prm_profile import TaggedLayout

_TAG: Final = "{tag}"


def tagged(layout: TaggedLayout, asked: AskedText, steps: Sequence[str]) -> Arrangement:
    """Returns the text up to the tag of the last step, or up to the end of the last step if there is no tag.

    Args:
        layout: The profile's layout.
        asked: The question.
        steps: Texts of the steps, at least one.
    """
    said: list[LayoutTurn] = []
    if layout.system is not None:
        said.append(LayoutTurn("system", (layout.system,)))
    if layout.user is not None:
        said.append(LayoutTurn("user", fill(layout.user, asked)))
    before, *pieces = tagged_pieces(layout, asked, steps)
    begun: list[str | None] = [*before]
    for text, tag in pieces:
        begun += [text, tag]
    return Arrangement(tuple(said), layout.role, merged(begun))


def tagged_pieces(
    layout: TaggedLayout, asked: AskedText, steps: Sequence[str]
) -> tuple[Parts, *tuple[tuple[str, str], ...]]:
    """Returns what stands before the first step, then for each step the text up to its tag, and the tag.

    Text after a tag belongs to the next step; that after the last tag is left out.
    """
    before_tag, _, after_tag = layout.step.partition(_TAG)
    pieces: list[tuple[str, str]] = []
    carried = ""
    for k, step in enumerate(steps, start=1):
        values = {**step_values(layout.step, step, k), "tag": layout.tag}
        text = "".join(part or "" for part in fill(before_tag, asked, **values))
        pieces.append((carried + text, layout.tag))
        carried = "".join(part or "" for part in fill(after_tag + layout.between, asked, **values))
    return fill(layout.before, asked), *pieces
