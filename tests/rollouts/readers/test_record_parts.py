"""Parts of published records, one by one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from atomthink_plugin.rollouts.readers.pictures import pictures_of
from atomthink_plugin.rollouts.readers.record_parts import is_blank, lettered_options, one_each, split_thought


def test_the_reply_follows_the_last_thought() -> None:
    assert split_thought("<think>a</think>b</think> c") == ("a</think>b", "c")


@pytest.mark.parametrize("given", [[1], [1, 2, 3]])
def test_a_list_of_another_length_is_refused(given: list[int]) -> None:
    with pytest.raises(ValueError, match="labels"):
        one_each("labels", given, 2)
    assert list(one_each("labels", None, 2)) == [None, None]


def test_options_end_at_the_first_empty_column() -> None:
    assert lettered_options({"A": "red", "B": 2, "C": " ", "D": "not shown"}) == ("red", "2")
    assert lettered_options({"A": "red", "B": math.nan, "C": "not shown"}) == ("red",)


@pytest.mark.parametrize(("value", "blank"), [(None, True), ("", True), (math.nan, True), (0, False), ("0", False)])
def test_zero_is_not_blank(value: Any, blank: bool) -> None:
    assert is_blank(value) == blank


def test_the_content_of_an_image_comes_before_its_name(tmp_path: Path) -> None:
    assert pictures_of({"bytes": b"x", "path": "gone.png"}, tmp_path) == (b"x",)
