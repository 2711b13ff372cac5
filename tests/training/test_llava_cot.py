"""Rows in the layout of LLaVA-CoT-100k: read as chains of stages, trained as such, and written back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from atomthink_plugin.api import Path as Node
from atomthink_plugin.cli import main
from atomthink_plugin.formats.stages import STAGES, Stages
from atomthink_plugin.inference.encoding import Encoder
from atomthink_plugin.training.llava_cot import stages_in
from atomthink_plugin.training.records import Chain, read_records
from atomthink_plugin.training.train.row_encoder import RowEncoder
from atomthink_plugin.training.train.tokens import ChainRows, closing_id
from tests.tiny_models import llava, loaded
from tests.training.annotate.teacher_server import lines

INNER = ("I will add both.", "Two bars.\n\nRed is 4, blue is 7.", "4 + 7 = 11.", "B")
STEPS = tuple(f"<{stage}> {text} </{stage}>" for stage, text in zip(STAGES, INNER, strict=True))
REPLY = "\n\n".join(STEPS)


def row(name: str, *turns: str, **more: Any) -> dict[str, Any]:
    conversation = [{"from": ("human", "gpt")[at % 2], "value": turn} for at, turn in enumerate(turns)]
    return {"id": name, "image": "pictures/a.png", "conversations": conversation, **more}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (8, 6), (250, 0, 0)).save(tmp_path / "pictures/a.png")
    return tmp_path


def read(folder: Path, rows: list[dict[str, Any]]) -> tuple[list[Chain], list[dict[str, Any]]]:
    (folder / "train.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    assert main(["data", "read", str(folder / "train.jsonl"), "--out", str(folder / "deep/chains.jsonl")]) == 0
    found = read_records(folder / "deep/chains.jsonl", Chain)
    assert not found.rejects
    return list(found.records), lines(folder / "deep/chains.rejects.jsonl")


def test_each_reply_of_a_row_is_a_chain_of_stages(folder: Path) -> None:
    loose = REPLY.replace("<SUMMARY> ", "<SUMMARY>\n\n").replace(" </SUMMARY>\n\n", "</SUMMARY> ")
    rows = [
        row("a", "How many?\nA. 3\nB. 11", REPLY, hints=["count the bars"]),
        row("b", "<image>\nFirst?", loose, "Second?", REPLY),
        row("a", "Again?", REPLY),
        row("text", "Without an image?", REPLY, image=None),
    ]
    chains, rejects = read(folder, rows)
    assert rejects == []
    assert [(chain.id, chain.question) for chain in chains] == [
        ("a", "How many?\nA. 3\nB. 11"),
        ("b/1", "First?"),
        ("b/2", "Second?"),
        ("a#2", "Again?"),
        ("text", "Without an image?"),
    ]
    assert {chain.steps for chain in chains} == {STEPS}
    assert {(chain.answer, chain.format) for chain in chains} == {("B", "stages")}
    assert [chain.images for chain in chains] == [("../pictures/a.png",)] * 4 + [()]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (REPLY.replace("</CAPTION>", ""), "CAPTION"),
        ("\n\n".join((STEPS[1], STEPS[0], *STEPS[2:])), "SUMMARY"),
        (REPLY.replace("4 + 7 = 11.", " "), "REASONING: empty"),
        (REPLY.replace("4 + 7", "<SUMMARY> 4 + 7"), "REASONING: holds further tags"),
        (f"{REPLY} I hope this helps.", "after <CONCLUSION>".replace("<", "</")),
        (f"Sure! {REPLY}", "before <SUMMARY>"),
    ],
)
def test_a_reply_without_four_stages_in_order_is_rejected_with_the_reason(
    folder: Path, reply: str, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        stages_in(reply)
    chains, (reject,) = read(folder, [row("a", "How many?", REPLY, "And here?", reply)])
    assert [chain.id for chain in chains] == ["a/1"]
    assert reject["where"] == "train.jsonl:1, reply 2"
    assert reason in reject["reason"]


def test_rows_that_cannot_be_used_are_counted_with_reasons(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        row("good", "How many?", REPLY),
        row("gone", "How many?", REPLY, image="pictures/gone.png"),
        row("odd", "How many?", REPLY, "And?"),
        row("empty", "", REPLY),
        row("turned", REPLY, "How many?", **{"conversations": [{"from": "gpt", "value": REPLY}]}),
    ]
    chains, rejects = read(folder, rows)
    assert [chain.id for chain in chains] == ["good"]
    assert [reject["where"] for reject in rejects] == [f"train.jsonl:{line}" for line in range(2, 6)]
    assert re.findall(r"\d+", capsys.readouterr().out.partition("(")[0]) == ["5", "1", "4"]


def test_a_chain_is_trained_as_the_bare_question_and_its_stages(folder: Path) -> None:
    (chain,), _ = read(folder, [row("a", "How many?", REPLY)])
    checkpoint = loaded(llava)
    rows = ChainRows(RowEncoder(checkpoint), closing_id(checkpoint), format_arguments={"stages": {"instruction": ""}})
    question = rows.question(chain, folder / "deep")
    found = [one for (one,) in rows.parts(chain, "stages", question)]
    assert len(found) == len(STAGES)
    prompt = Encoder(checkpoint).encode(Stages(instruction="").render(Node(question)))
    first = found[0].encoding.tokens["input_ids"][0].tolist()
    assert first[: min(found[0].labels)] == prompt.tokens["input_ids"][0].tolist()
    learned = "".join(checkpoint.tokenizer.decode(list(one.labels.values())) for one in found)
    assert f"<SUMMARY>{learned}".removesuffix(checkpoint.tokenizer.eos_token) == REPLY


def test_what_was_written_is_read_back(folder: Path) -> None:
    chains, _ = read(folder, [row("a", "How many?", REPLY), row("b", "First?", REPLY, "Second?", REPLY)])
    out = folder / "written"
    assert main(["data", "stages", str(folder / "deep/chains.jsonl"), "--out", str(out)]) == 0
    written = lines(out / "train.jsonl")
    assert [list(one) for one in written] == [["id", "image", "conversations"]] * 3
    assert written[0]["conversations"] == row("a", "How many?", REPLY)["conversations"]
    with Image.open(out / written[0]["image"]) as copied:
        assert copied.getpixel((0, 0)) == (250, 0, 0)
    for source in (out / "train.jsonl", out):
        assert main(["data", "read", str(source), "--out", str(folder / "back.jsonl")]) == 0
        back = read_records(folder / "back.jsonl", Chain).records
        assert [len(one.images) for one in back] == [1, 1, 1]
        same = {"images": ()}
        assert [one.model_copy(update=same) for one in back] == [one.model_copy(update=same) for one in chains]


def test_only_right_chains_of_stages_with_one_image_are_written(folder: Path) -> None:
    good = {"question": "How many?", "steps": STEPS, "format": "stages", "images": ["pictures/a.png"]}
    changes: dict[str, dict[str, Any]] = {
        "good": {},
        "none": {"format": None},
        "atomic": {"format": "atomic"},
        "short": {"steps": STEPS[:3]},
        "plain": {"steps": INNER},
        "wrong": {"labels": [1, 1, 0, None]},
        "two": {"images": ["pictures/a.png"] * 2},
    }
    file, out = folder / "chains.jsonl", folder / "written"
    file.write_text("".join(json.dumps({"id": name, **good, **change}) + "\n" for name, change in changes.items()))
    assert main(["data", "stages", str(file), "--out", str(out)]) == 0
    assert [one["id"] for one in lines(out / "train.jsonl")] == ["good"]
    assert {one["record"]["id"] for one in lines(out / "rejects.jsonl")} == changes.keys() - {"good"}
