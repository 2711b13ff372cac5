"""The page of models has the names, defaults and tested architectures of the source."""

from __future__ import annotations

import json

from atomthink_plugin.doctor.versions import TESTED
from atomthink_plugin.model_adapters.models import MODELS
from atomthink_plugin.model_adapters.tiny import TINY_ARGUMENTS
from tests import rare_models, tiny_models
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
    rare = (
        rare_models.exaone4_5,
        rare_models.idefics2,
        rare_models.kimi_k25,
        rare_models.qianfan_ocr,
        rare_models.qwen_omni,
    )
    folders = [tiny_models.folder(one) for one in (*(getattr(tiny_models, name) for name in builders), *rare)]
    built = {json.loads((folder / "config.json").read_text())["architectures"][0] for folder in folders}
    # vLLM's name of a PRM, in tests/vllm, and a class that is refused before its weights are read.
    assert named - built == {"Qwen2ForProcessRewardModel", "PI0ForConditionalGeneration"}
    assert built <= named


def test_the_newest_tested_versions_are_those_of_the_doctor() -> None:
    assert f"transformers 5.19 and {TESTED['transformers']}" in PAGE
    assert f"Python code of {TESTED['vllm']}" in PAGE
