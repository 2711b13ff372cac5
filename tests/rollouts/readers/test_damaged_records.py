"""Whatever a field holds, a record is read or has a reason: no reader ends the run."""

from __future__ import annotations

import ast
import csv
import json
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atomthink_plugin.rollouts.readers.formats import ROLLOUT_FORMATS
from atomthink_plugin.rollouts.rollout_set import RolloutSet
from atomthink_plugin.source_rows import SourceRow
from tests.reference.pages import examples, page
from tests.rollouts.readers.record_files import image_file

TEXTS = examples(page("file-formats.md"))["Candidates of other runs"]
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)


def example(text: str) -> Mapping[str, Any]:
    found = json.loads(text) if text.startswith("{") else next(csv.DictReader(StringIO(text)))
    assert isinstance(found, Mapping)
    return found


EXAMPLES = dict(zip(ROLLOUT_FORMATS, map(example, TEXTS), strict=True))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where in a record a value can be replaced: its fields, and what is in them."""
    inner = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, one in inner for place in places(one, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    key, *rest = path
    if isinstance(value, Mapping):
        return {**value, key: replaced(value[key], tuple(rest), new)}
    return [replaced(one, tuple(rest), new) if at == key else one for at, one in enumerate(value)]


def sets_or_reason(name: str, row: SourceRow) -> list[RolloutSet] | str:
    try:
        return list(ROLLOUT_FORMATS[name].read(row))
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("name", ROLLOUT_FORMATS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_record_has_a_reason(name: str, tmp_path: Path, data: st.DataObject) -> None:
    image_file(tmp_path / "images" / "1.png")
    whole = EXAMPLES[name]
    path = data.draw(st.sampled_from(places(whole)[1:]))
    row = SourceRow("file:1", "A_SET", tmp_path, replaced(whole, path, data.draw(anything)))
    sets = sets_or_reason(name, row)
    assert sets
    if not isinstance(sets, str):
        assert all(isinstance(candidate.text, str) for one in sets for candidate in one.candidates)
        assert all(one.gold is None or isinstance(one.gold, str) for one in sets)


@pytest.mark.parametrize("name", ROLLOUT_FORMATS)
def test_every_field_that_names_the_format_is_needed_or_has_a_default(name: str, tmp_path: Path) -> None:
    image_file(tmp_path / "images" / "1.png")
    whole = EXAMPLES[name]
    for field in whole:
        row = SourceRow("file:1", "A_SET", tmp_path, {key: value for key, value in whole.items() if key != field})
        assert sets_or_reason(name, row)


@given(st.text(max_size=30))
def test_a_list_in_a_cell_is_never_executed(text: str) -> None:
    row = SourceRow("f:1", "f", Path(), {"image": "", "model_answer": f"[{text}", "extraction": f"[{text}"})
    try:
        (one,) = ROLLOUT_FORMATS["ursa"].read(row)
    except ValueError:
        return
    assert [candidate.text for candidate in one.candidates] == [
        one.replace("†", "").strip() for one in ast.literal_eval(f"[{text}")
    ]
