"""The pages of PRM profiles: the example file is valid, and the tables have all that a profile can say."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import yaml

from atomthink_plugin.scorers.prm_profile import (
    FIELDS,
    AskedLayout,
    ChatMarkup,
    ClassesReadOut,
    Loader,
    PairReadOut,
    Profile,
    ScalarReadOut,
    ShareReadOut,
    TaggedLayout,
    TurnsLayout,
)
from atomthink_plugin.scorers.profile_catalogue import PROFILES, profile_named
from tests.docs.fences import ROOT, fences
from tests.reference.pages import code, page, section, table

PAGE = (ROOT / "docs" / "explanation" / "process-reward-models.md").read_text(encoding="utf-8")
BELOW = section(PAGE, "## Your own profile")


def kinds(*schemas: type) -> set[str]:
    return {get_args(schema.model_fields["kind"].annotation)[0] for schema in schemas}  # type: ignore[attr-defined]


def test_the_example_is_a_valid_profile(tmp_path: Path) -> None:
    (example,) = (fence for fence in fences(PAGE) if fence.title == "my_prm.yaml")
    file = tmp_path / "my_prm.yaml"
    file.write_text(example.code, encoding="utf-8")
    assert isinstance(profile_named(str(file)).model, Profile)
    (chat,) = (fence for fence in fences(BELOW) if fence.language == "yaml" and fence.title is None)
    assert ChatMarkup.model_validate(yaml.safe_load(chat.code)["chat"]).header


def test_each_layout_and_read_out_is_explained() -> None:
    shown = {code(row[0])[0] for row in table(section(PAGE, "## Layouts"))}
    assert shown == kinds(TurnsLayout, TaggedLayout, AskedLayout)
    shown = {code(row[0])[0] for row in table(section(PAGE, "## Read-outs"))}
    assert shown == kinds(PairReadOut, ShareReadOut, ClassesReadOut, ScalarReadOut)


def test_each_loader_and_field_of_a_template_is_explained() -> None:
    assert all(f"`{loader}`" in BELOW for loader in get_args(Loader))
    assert all(f"`{{{name}}}`" in BELOW for name in FIELDS)


def test_the_page_of_the_profiles_has_each_with_its_ids() -> None:
    shown = page("prm-profiles.md")
    for name in PROFILES:
        model = profile_named(name).model
        below = shown.partition(f"\n## `{name}`\n")[2].partition("\n## `")[0]  # prompts of a PRM have headings, too
        assert all(f"`{hub}`" in below for hub in model.names)
        assert all(f" {number}" in below for number in model.ids.values())
        assert all(f"{one.value:g}" in below for one in model.published)
