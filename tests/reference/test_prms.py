"""The page of PRMs has the kinds, defaults, settings and serving commands of the source."""

from __future__ import annotations

import json
import re

from atomthink_plugin.model_adapters.tiny import WEIGHTS
from atomthink_plugin.plugins.registry import registry
from atomthink_plugin.scorers.detect import PUBLISHED, SECTION, SEPARATOR_TOKEN, PrmSettings
from atomthink_plugin.scorers.prm_head import SYSTEM
from atomthink_plugin.scorers.prm_profile import PairReadOut, Profile, TaggedLayout
from atomthink_plugin.scorers.profile_catalogue import all_profiles, profile_named
from atomthink_plugin.scorers.served_head import ServedHeadPrm
from atomthink_plugin.scorers.served_token import ServedChatPrm, ServedTokenPrm
from atomthink_plugin.scorers.vllm_command import classified, not_served, vllm_command
from tests.docs.fences import fences
from tests.reference.pages import code, page, section, table

PAGE = page("prms.md")


def test_each_scorer_is_a_kind() -> None:
    assert {code(row[0])[0] for row in table(section(PAGE, "## Kinds"))} == set(registry().scorers)


def test_the_defaults_of_the_scorers_by_hand_are_those_of_the_page() -> None:
    rows = {code(row[1])[0]: row[1] for row in table(section(PAGE, "## Published PRMs")) if code(row[1])}
    shown = rows["scorer=prm_token"]
    named = {word: json.loads(text) for word, text in re.findall(r"(\w+) `(\"[^`]*\")`", shown)}
    assert named == {"tag": PUBLISHED.tag, "good": PUBLISHED.good, "bad": PUBLISHED.bad}
    assert SEPARATOR_TOKEN in code(rows["scorer=prm_head"])


def test_the_default_layouts_are_those_of_two_profiles() -> None:
    (psa, pair), (qwen, _) = map(tagged, ("math_psa", "qwen2_5_math_prm"))
    assert isinstance(pair, PairReadOut)
    assert (psa.tag, pair.good, pair.bad) == (PUBLISHED.tag, PUBLISHED.good, PUBLISHED.bad)
    assert (qwen.system, qwen.tag) == (SYSTEM, SEPARATOR_TOKEN)


def tagged(name: str) -> tuple[TaggedLayout, object]:
    """The layout and the read-out of a profile with tags."""
    profile = profile_named(name).model
    assert isinstance(profile, Profile)
    assert isinstance(profile.layout, TaggedLayout)
    return profile.layout, profile.read


def test_each_setting_of_a_checkpoint_is_explained_and_the_example_is_valid() -> None:
    below = section(PAGE, "## Your own PRM")
    assert {name for row in table(below) for name in code(row[0])} == set(PrmSettings.model_fields)
    (example,) = fences(below)
    settings = PrmSettings.model_validate(json.loads(example.code)[SECTION])
    embedded = json.loads((WEIGHTS / "prm" / "config.json").read_text())[SECTION]
    assert settings == PrmSettings.model_validate(embedded)


def test_each_serving_command_is_the_one_in_the_errors() -> None:
    shown = {command for row in table(section(PAGE, "## Serve a PRM")) for command in code(row[1])}
    assert {ServedTokenPrm.start, ServedChatPrm.start} <= shown
    qwen = '--hf-overrides \'{"architectures": ["LastStepRewardModel"]}\''
    for option in ('--pooler-config \'{"task": "classify"}\'', qwen):
        assert option in ServedHeadPrm.start
        assert [command for command in shown if option in command]


def test_each_served_profile_has_its_command_and_route() -> None:
    rows = {name: row for row in table(section(PAGE, "## Serve a PRM")) for name in code(row[0])}
    for name, found in all_profiles().items():
        if not isinstance(found.model, Profile):
            continue
        assert (name in rows) == (not_served(found.model) is None), name
        if name in rows:
            assert code(rows[name][1]) == [vllm_command(found.model, "PRM")]
            reads_images = found.model.images.use != "none"
            route = "/classify" if classified(found.model) else "/inference" if reads_images else "/v1/completions"
            assert route in rows[name][2]
