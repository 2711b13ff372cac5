"""The example lines of training/README.md are read by the code that reads the files."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from PIL import Image

from atomthink_plugin.training.records import AnsweredQuestion, Chain, Pair, QuestionRecord, Reject, read_records

README = (Path(__file__).parents[2] / "training" / "README.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"^### (\S+)\n.*?^```\w+\n(.*?)^```", README, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("questions.jsonl", AnsweredQuestion), ("chains.jsonl", Chain), ("labels.jsonl", Chain), ("pairs.jsonl", Pair)],
)
def test_an_example_line_is_a_record_with_all_its_fields(name: str, kind: type[QuestionRecord], tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images/1.png")
    (tmp_path / name).write_text(EXAMPLES[name])
    (record,) = read_records(tmp_path / name, kind, strict=True).records
    assert json.loads(record.model_dump_json(exclude_unset=True)) == json.loads(EXAMPLES[name])


def test_the_example_of_a_reject_has_its_fields() -> None:
    assert set(json.loads(EXAMPLES["rejects.jsonl"])) == {field.name for field in fields(Reject)}


def test_the_example_of_a_recipe_is_a_recipe() -> None:
    from atomthink_plugin.training.train.recipe import PrmRecipe

    assert PrmRecipe.model_validate(yaml.safe_load(EXAMPLES["recipe.yaml"])).max_steps == 150


def test_there_is_an_example_of_each_file_of_the_picture() -> None:
    picture = README[README.index("```mermaid") : README.index("## Commands")]
    drawn = set(re.findall(r"\[/(\S+\.jsonl)/\]", picture))
    assert drawn - EXAMPLES.keys() == {"hard.jsonl"}  # in the form of labels.jsonl
