"""The page of models has the names, defaults and tested architectures of the source."""

from __future__ import annotations

import json

from atomthink_plugin.doctor.versions import TESTED
from atomthink_plugin.model_adapters.models import MODELS
from atomthink_plugin.model_adapters.tiny import TINY_ARGUMENTS
from tests import tiny_models
from tests.reference.pages import code, page, section, table

PAGE = page("models.md")


def test_each_model_has_its_policy_and_defaults() -> None:
    rows = {code(row[0])[0]: row for row in table(section(PAGE, "## Names and defaults"))}
    assert rows.keys() == MODELS.keys()
    for name, model in MODELS.items():
        assert code(rows[name][1]) == [model.policy]
        shown = {word for word in code(rows[name][3]) if "=" in word}
        hidden = {"pretrained", "prm"} if model.defaults is TINY_ARGUMENTS else set()  # folders of the package
        assert shown == {f"{key}={value}" for key, value in model.defaults.items() if key not in hidden}


def test_each_tested_architecture_is_one_that_the_tests_build() -> None:
    named = {word for row in table(section(PAGE, "## Families in the tests")) for word in code(row[0]) if "For" in word}
    builders = ("llava", "llava_next", "qwen", "mllama", "gemma3", "paligemma", "t5gemma2", "causal_prm", "head_prm")
    folders = [tiny_models.folder(getattr(tiny_models, name)) for name in builders]
    built = {json.loads((folder / "config.json").read_text())["architectures"][0] for folder in folders}
    assert named - built == {"Qwen2ForProcessRewardModel"}  # vLLM's name of it, in tests/vllm
    assert built <= named


def test_the_newest_tested_versions_are_those_of_the_doctor() -> None:
    assert f"transformers 5.19 and {TESTED['transformers']}" in PAGE
    assert f"Python code of {TESTED['vllm']}" in PAGE
