"""Tiny models of the architectures, the comparison with plain `generate`, and the table."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoConfig

from atomthink_plugin.api import Prompt
from benchmarks import families
from benchmarks.family_models.build import architectures, build, tiny_config
from benchmarks.family_models.facts import Facts
from benchmarks.family_models.facts_a_to_kosmos import FACTS as FIRST
from benchmarks.family_models.facts_after_kosmos import FACTS as SECOND
from benchmarks.family_models.measure import measure, questions
from benchmarks.family_models.plain import PlainModel, Reply
from benchmarks.family_models.shrink import shrunk
from benchmarks.family_models.words import small_tokenizer
from benchmarks.tables.families import RUNS, cell, differs, how


@pytest.mark.parametrize("kind", ["llava", "qwen3_vl"])
def test_a_type_without_facts_is_built_and_runs(kind: str, tmp_path: Path) -> None:
    record = measure(kind, tmp_path)
    assert how(record) in RUNS
    assert record["image matters"]
    assert set(record["replies"].values()) == {"same"}
    assert len(record["replies"]) == 2 * len(record["plain"])
    assert set(record["searches"].values()) == {""}


def test_facts_of_a_type_are_put_into_its_config() -> None:
    facts = FIRST["dots3_note"]
    if "dots3_note" not in architectures():
        pytest.skip("this version of transformers does not have the type")
    config = tiny_config(AutoConfig.for_model("dots3_note"), "dots3_note", facts, {})
    assert config["text_config"]["head_dim"] == facts.config["text_config.head_dim"]


def test_a_type_has_facts_in_one_place_and_is_one_of_transformers() -> None:
    assert not FIRST.keys() & SECOND.keys()
    if tuple(map(int, transformers.__version__.split(".")[:2])) >= (5, 24):
        assert {*FIRST, *SECOND} <= architectures().keys()


def test_a_type_that_cannot_be_built_says_why(tmp_path: Path) -> None:
    record = measure("evolla" if "evolla" in architectures() else "pi0", tmp_path)
    assert how(record) not in RUNS
    assert record["reason"]


def test_few_layers_of_each_kind_are_kept() -> None:
    config = shrunk(
        {
            "num_hidden_layers": 6,
            "hidden_size": 4096,
            "layer_types": ["sliding"] * 3 + ["full"] + ["sliding"] * 2,
            "mlp_layer_types": ["dense"] + ["sparse"] * 5,
            "deepstack_visual_indexes": [1, 3, 5],
            "per_layer_config": {"03": {"head_dim": 512}},
        }
    )
    assert config["layer_types"] == ["sliding", "sliding", "full"]
    assert config["mlp_layer_types"] == ["dense", "sparse", "sparse"]
    assert config["num_hidden_layers"] == 3
    assert config["per_layer_config"].keys() == {"02"}
    assert config["per_layer_config"]["02"]["head_dim"] < 512
    assert max(config["deepstack_visual_indexes"]) < 3


def test_keys_and_values_stay_shared_by_heads_or_not() -> None:
    assert shrunk({"num_attention_heads": 32, "num_key_value_heads": 8})["num_key_value_heads"] == 2
    assert shrunk({"num_attention_heads": 32, "num_key_value_heads": 32})["num_key_value_heads"] == 4


def test_the_tokenizer_has_special_tokens_by_name_and_by_text() -> None:
    words = small_tokenizer({"image_token": "<image>", "<row>": "<row>"}, prefix="_", ordinary=("|NEWLINE|",))
    image, row, newline = (words.convert_tokens_to_ids(text) for text in ("<image>", "<row>", "|NEWLINE|"))
    assert words.image_token_id == image
    assert words("<image><row>")["input_ids"] == [image, row]
    assert words("|NEWLINE||NEWLINE|<image>")["input_ids"] == [
        words.convert_tokens_to_ids("_"),
        newline,
        newline,
        image,
    ]


class TestReply:
    reply = Reply([1], [5, 6, 2], torch.nn.functional.one_hot(torch.tensor([5, 6, 2]), 8).float())

    def test_the_same_tokens_are_no_difference_with_or_without_the_end(self) -> None:
        assert self.reply.differs([5, 6, 2], end=2) is None
        assert self.reply.differs([5, 6], end=2) is None

    def test_another_token_or_fewer_are(self) -> None:
        assert self.reply.differs([5, 7], end=2)
        assert self.reply.differs([5], end=2)
        assert self.reply.differs([], end=2)

    def test_a_token_that_scores_the_same_is_not(self) -> None:
        scores = self.reply.scores.clone()
        scores[1, 7] = scores[1, 6] - 1e-6
        assert Reply([1], [5, 6, 2], scores).differs([5, 7, 7], end=2) is None


def test_plain_generate_continues_given_steps(tmp_path: Path) -> None:
    build("llava", Facts(), tmp_path)
    plain = PlainModel(tmp_path, 4)
    asked = questions()["text"]
    first, later = plain.first(asked), plain.later(Prompt(asked, ("Step 1: Look.\n\n",)))
    assert later.prompt[: len(first.prompt)] == first.prompt
    assert len(later.prompt) > len(first.prompt)


def record(**changed: Any) -> dict[str, Any]:
    """A type that runs and replies as plain `generate` does."""
    replies = {f"{name}, {step}": "same" for name in questions() for step in ("first", "later")}
    searches = {f"{search}, {name}": "" for name in questions() for search in ("quick", "beam")}
    plain = dict.fromkeys(questions(), "")
    made: dict[str, Any] = {
        "built": True,
        "image matters": True,
        "outcome": "forking",
        "plain": plain,
        "replies": replies,
        "searches": searches,
    }
    for name, values in changed.items():
        made[name] = {**made[name], **values} if isinstance(values, Mapping) else values
    return made


class TestTable:
    def test_equal_replies_are_the_same(self) -> None:
        assert [cell(record(), name) for name in questions()] == ["same"] * 3
        assert not differs(record())

    def test_a_model_that_does_not_see_the_image_is_not_the_same(self) -> None:
        blind = record(**{"image matters": False})
        assert cell(blind, "image") != "same"
        assert cell(blind, "text") == "same"

    @pytest.mark.parametrize(
        "changed",
        [{"replies": {"text, later": "token 0 is 1, not 2"}}, {"searches": {"beam, text": "RuntimeError: shape"}}],
    )
    def test_other_tokens_and_errors_are_different(self, changed: dict[str, Any]) -> None:
        assert cell(record(**changed), "text") == "different"
        assert cell(record(**changed), "image") == "same"
        assert differs(record(**changed))

    def test_a_refusal_is_no_difference(self) -> None:
        refused = record(searches={"beam, two images": "refused: no", "quick, two images": "refused: no"})
        assert cell(refused, "two images") == "refused"
        assert cell(refused, "image") == "same"

    def test_what_plain_generate_cannot_answer_is_not_compared(self) -> None:
        silent = record(plain={"text": "TypeError"}, searches={"quick, text": "TypeError"})
        assert cell(silent, "text") not in ("same", "different")
        assert not differs(silent)


class TestResults:
    def test_a_run_continues_where_it_was_interrupted(self, tmp_path: Path) -> None:
        file = tmp_path / "families.json"
        families.Results(file).add("llava", record())
        again = families.Results(file)
        assert again.missing(["llava", "qwen3_vl"]) == ["qwen3_vl"]
        again.add("aya_vision", record())
        (version,) = json.loads(file.read_text())["versions"].values()
        assert list(version["types"]) == ["aya_vision", "llava"]

    def test_a_type_that_ends_its_process_does_not_end_the_run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script = tmp_path / "measure.py"
        script.write_text(
            "import json, os, pathlib, sys\n"
            "for kind in sys.argv[sys.argv.index('--out') + 2 :]:\n"
            "    if kind == 'fatal':\n"
            "        os.abort()\n"
            "    with pathlib.Path(sys.argv[sys.argv.index('--out') + 1]).open('a') as out:\n"
            "        out.write(json.dumps({'type': kind, 'built': True, 'outcome': 'slots'}) + '\\n')\n"
        )
        command = families.Measurement.__init__

        def start(self: families.Measurement, types: Any, timeout: int, keep: Path | None) -> None:
            command(self, types, timeout, keep)
            self._command = [sys.executable, str(script)]

        monkeypatch.setattr(families.Measurement, "__init__", start)
        found = dict(families.measured(["llava", "fatal", "qwen3_vl"], 1, None))
        assert {kind: one["outcome"] for kind, one in found.items()} == {
            "llava": "slots",
            "fatal": "crashed",
            "qwen3_vl": "slots",
        }
