"""Which images of a question a PRM gets."""

from __future__ import annotations

import weakref
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from atomthink_plugin.api import AtomThinkError, QuestionError
from atomthink_plugin.scorers.layouts.image_rules import AskedImages, limit_images
from atomthink_plugin.scorers.prm_profile import ImageRule
from tests.tiny_models import picture, question

ASKED = question("Which?", picture(0), picture(1), name="two")


def test_the_rule_chooses_the_images() -> None:
    shown = {use: AskedImages("x", ImageRule(use=use)).of(ASKED) for use in ("all", "first", "none")}  # type: ignore[arg-type]
    assert shown == {"all": list(ASKED.images), "first": list(ASKED.images[:1]), "none": []}


@pytest.mark.parametrize("use", ["all", "first", "tiled"])
def test_more_images_than_the_profile_allows_are_refused(use: str) -> None:
    rule = {"use": use, "most": 1}
    with pytest.raises(QuestionError, match="2 images"):
        AskedImages("x", ImageRule.model_validate(rule)).of(ASKED)
    assert AskedImages("x", ImageRule.model_validate(rule | {"most": 2})).of(ASKED)


def test_a_prm_of_text_alone_refuses_no_number_of_images() -> None:
    assert AskedImages("x", ImageRule(use="none", most=1)).of(ASKED) == []


def test_several_images_are_joined_once_for_each_question() -> None:
    images = AskedImages("x", ImageRule(use="tiled"))
    (joined,) = images.of(ASKED)
    assert images.of(ASKED)[0] is joined
    (other,) = images.of(question("Which?", ASKED.images[0], picture(3), name="three"))
    assert other is not joined
    (single,) = images.of(question("Which?", ASKED.images[0], name="one"))
    assert single is ASKED.images[0]


def test_joined_images_stay_in_memory_because_their_ids_name_them() -> None:
    images = AskedImages("x", ImageRule(use="tiled"))
    asked = question("Which?", picture(4), picture(5), name="gone")
    kept = weakref.ref(asked.images[0])
    images.of(asked)
    del asked
    assert kept() is not None


def test_joined_images_stand_in_rows_from_the_left() -> None:
    colours = ["red", "green", "blue", "black"]
    asked = question("Which?", *(Image.new("RGB", (4, 4), colour) for colour in colours), name="four")
    (joined,) = AskedImages("x", ImageRule(use="tiled")).of(asked)
    expected = Image.new("RGB", (12, 8), "white")
    for at, colour in enumerate(colours):
        expected.paste(Image.new("RGB", (4, 4), colour), (at % 3 * 4, at // 3 * 4))
    assert joined.tobytes() == expected.tobytes()


def test_a_processor_gets_the_limits_of_the_rule() -> None:
    tiled: Any = SimpleNamespace(image_processor=SimpleNamespace(max_patches=12))
    limit_images(tiled, ImageRule(use="all", tiles=6), "x")
    assert tiled.image_processor.max_patches == 6
    sized: Any = SimpleNamespace(image_processor=SimpleNamespace(size=SimpleNamespace(shortest_edge=1, longest_edge=9)))
    limit_images(sized, ImageRule(use="all", min_pixels=2, max_pixels=8), "x")
    assert (sized.image_processor.size.shortest_edge, sized.image_processor.size.longest_edge) == (2, 8)
    with pytest.raises(AtomThinkError, match="tiles"):
        limit_images(sized, ImageRule(use="all", tiles=6), "x")
