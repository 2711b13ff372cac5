"""Data sets that trl, LLaMA-Factory and readers of the published files can load; what was written can be read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from atomthink_plugin.api import Path as Node
from atomthink_plugin.api import Step
from atomthink_plugin.cli import main
from atomthink_plugin.formats.atomic import Atomic
from atomthink_plugin.training.records import Chain, read_records, write_records
from tests.training.annotate.teacher_server import lines
from tests.training.damaged_files import HALF, LATIN, append, oversized

STEPS = ("Step 1: Read red = 4.", "Step 2: 4 + 2 = 6.", "Step 3: To sum up, the final answer is: 6.")
TAG = "\n\n\n\n\n"


@pytest.fixture
def chains(tmp_path: Path) -> Path:
    for name, colour in (("a.png", (250, 0, 0)), ("b.png", (0, 250, 0))):
        Image.new("RGB", (8, 6), colour).save(tmp_path / name)
    made = [
        Chain(id="a", question="How many?", images=("a.png",), steps=STEPS, answer="6"),
        Chain(id="b", question="And here?", images=("b.png",), steps=STEPS[1:], answer="6"),
        Chain(id="wrong", question="What?", images=("a.png",), steps=STEPS[:2], labels=(1.0, 0.0)),
        Chain(id="soft", question="What?", images=("b.png",), steps=STEPS, labels=(None, 0.25, 0.75)),
        Chain(id="tag", question="Is <image> here?", images=("b.png",), steps=STEPS, labels=(1, 1, 1)),
    ]
    file = tmp_path / "chains.jsonl"
    write_records(file, made)
    about = [json.loads(line) for line in file.read_text().splitlines()]
    about[0] |= {"source": "MathV", "way": "dynamic"}
    file.write_text("".join(json.dumps(record) + "\n" for record in about) + '{"id": "none", "question": "?"}\n')
    return file


@pytest.mark.slow
def test_sft_records_are_the_prompts_of_inference_one_per_step(chains: Path, tmp_path: Path) -> None:
    import datasets

    out = tmp_path / "sft"
    assert main(["data", "sft", str(chains), "--out", str(out)]) == 0
    found = read_records(chains, Chain)
    rows = json.loads((out / "amath_sft.json").read_text())
    assert len(rows) == 3 + 2
    assert all(set(row) == {"final_input_prompt", "image", "conversations", "answer"} for row in rows)
    at = 0
    for chain in found.records[:2]:
        node = Node(found.question(chain))
        for step in chain.steps:
            text = "".join(part for part in Atomic().render(node).messages[0].parts if isinstance(part, str))
            human, gpt = rows[at]["conversations"]
            assert human == {"from": "human", "value": f"<image>\n{text}"}
            assert gpt == {"from": "gpt", "value": step}
            assert rows[at]["final_input_prompt"] == human["value"]
            with Image.open(out / rows[at]["image"]) as copied, Image.open(chains.parent / chain.images[0]) as own:
                assert copied.tobytes() == own.tobytes()
            node, at = node.extend(Step(step)), at + 1
    rejects = {one["record"]["id"]: one["reason"] for one in lines(out / "rejects.jsonl")}
    assert rejects.keys() == {"wrong", "soft", "tag", "none"}
    assert "step 2" in rejects["wrong"]
    card = (out / "README.md").read_text()
    assert "| MathV | dynamic | 1 | 3 |" in card
    assert "| all | | 2 | 5 |" in card
    assert "6 chains were read, 4 rejected" in card

    info = json.loads((out / "dataset_info.json").read_text())["amath_sft"]
    tags, columns = info["tags"], info["columns"]
    loaded = json.loads((out / info["file_name"]).read_text())
    for row in loaded:  # what LLaMA-Factory's sharegpt converter asks of a record
        turns = row[columns["messages"]]
        assert [turn[tags["role_tag"]] for turn in turns] == [tags["user_tag"], tags["assistant_tag"]]
        assert sum(turn[tags["content_tag"]].count("<image>") for turn in turns) == 1
        assert (out / row[columns["images"]]).is_file()

    table = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))["train"]
    assert len(table) == 5
    assert table[0]["images"][0].getpixel((0, 0)) == (250, 0, 0)
    assert table[4]["images"][0].getpixel((0, 0)) == (0, 250, 0)
    assert [row["completion"][0]["content"] for row in table] == [*STEPS, *STEPS[1:]]
    _trl_takes(table)


def _trl_takes(table: Any) -> None:
    """trl's own collator masks all but the step."""
    from transformers import AutoProcessor
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    from atomthink_plugin.model_adapters.tiny import WEIGHTS

    processor = AutoProcessor.from_pretrained(WEIGHTS / "policy")
    columns = ("prompt", "completion", "images")
    batch = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)(
        [{name: row[name] for name in columns} for row in table]
    )
    for ids, labels, row in zip(batch["input_ids"], batch["labels"], table, strict=True):
        learned = processor.tokenizer.decode(ids[labels != -100], skip_special_tokens=True)
        assert (
            learned.split()
            == processor.tokenizer.decode(
                processor.tokenizer(row["completion"][0]["content"])["input_ids"], skip_special_tokens=True
            ).split()
        )
    assert batch["pixel_values"].shape[0] == len(table)


def test_only_atomic_chains_are_sft_records_and_a_lone_surrogate_costs_its_chain_alone(tmp_path: Path) -> None:
    (tmp_path / "huge.png").write_bytes(oversized())
    good = {"question": "How many?", "steps": STEPS}
    changes = {"a": {"format": "atomic", "source": "\ud83d"}, "b": {"format": "direct", "steps": ["4"]}}
    changes |= {"c": {"format": "continue"}, "d": {"steps": ["\ud83d"]}, "e": {"images": ["huge.png"]}}
    changes |= {"f": {"answer": "\ud83d"}}
    file, out = tmp_path / "chains.jsonl", tmp_path / "sft"
    file.write_text("".join(json.dumps({"id": name, **good, **change}) + "\n" for name, change in changes.items()))
    assert main(["data", "sft", str(file), "--out", str(out)]) == 0
    assert [row["conversations"][1]["value"] for row in json.loads((out / "amath_sft.json").read_text())] == [*STEPS]
    rejects = {one["record"]["id"]: one["reason"] for one in lines(out / "rejects.jsonl")}
    assert rejects.keys() == {"b", "c", "d", "e", "f"}
    assert rejects["b"].startswith("`format: direct`")
    assert rejects["c"].startswith("`format: continue`")
    assert rejects["e"].startswith("image huge.png: DecompressionBombError")
    assert "| ? | unknown | 1 | 3 |" in (out / "README.md").read_text()
    assert "6 chains were read, 5 rejected" in (out / "README.md").read_text()


def test_a_prm_record_ends_with_its_labelled_step(chains: Path, tmp_path: Path) -> None:
    import datasets

    out = tmp_path / "prm"
    assert main(["data", "prm", str(chains), "--out", str(out)]) == 0
    rows = json.loads((out / "amath_prm.json").read_text())
    assert [(row["process"], row["label"]) for row in rows] == [
        (STEPS[0] + TAG, ["+"]),
        ("\n\n".join(STEPS[:2]) + TAG, ["-"]),
        ("\n\n".join(STEPS[:2]) + TAG, ["-"]),
        ("\n\n".join(STEPS) + TAG, ["+"]),
    ]
    assert all(row.keys() == {"question", "process", "label", "image"} for row in rows)
    table = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))["train"]
    assert "error_kind" not in table.column_names
    assert table["value"][:] == [1.0, 0.0, 0.25, 0.75]
    assert "Labels: 2 right (+), 2 wrong (-)." in (out / "README.md").read_text()
    assert {one["record"]["id"] for one in lines(out / "rejects.jsonl")} == {"a", "b", "tag", "none"}


def test_kinds_of_errors_are_written_and_read_back(chains: Path, tmp_path: Path) -> None:
    import datasets

    labels, kinds = (1.0, 0.0, 0.0), ("perception", "reasoning", None)  # the first step is right: its kind is ignored
    one = Chain(id="a", question="How many?", images=("a.png",), steps=STEPS, labels=labels, error_kinds=kinds)
    write_records(chains, [one, one.model_copy(update={"id": "b", "error_kinds": None})])
    out, back = tmp_path / "prm", tmp_path / "back.jsonl"
    assert main(["data", "prm", str(chains), "--out", str(out)]) == 0
    rows = json.loads((out / "amath_prm.json").read_text())
    assert [row["error_kind"] for row in rows] == [None, "reasoning", None, None, None, None]
    table = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))["train"]
    assert table["error_kind"][:] == [row["error_kind"] for row in rows]
    assert main(["data", "read", str(out), "--out", str(back)]) == 0
    read = [chain.error_kinds for chain in read_records(back, Chain).records]
    assert read == [None, (None, "reasoning"), None, None, None, None]


@pytest.mark.parametrize("source", ["sft", "sft/amath_sft.json"])
def test_what_was_written_is_read_back(source: str, chains: Path, tmp_path: Path) -> None:
    assert main(["data", "sft", str(chains), "--out", str(tmp_path / "sft")]) == 0
    assert main(["data", "read", str(tmp_path / source), "--out", str(tmp_path / "back.jsonl")]) == 0
    back = read_records(tmp_path / "back.jsonl", Chain)
    whole = read_records(chains, Chain).records[:2]
    assert [(c.question, c.steps, c.answer) for c in back.records] == [(c.question, c.steps, c.answer) for c in whole]
    assert not lines(tmp_path / "back.rejects.jsonl")
    assert main(["data", "prm", str(chains), "--out", str(tmp_path / "prm")]) == 0
    assert main(["data", "read", str(tmp_path / "prm/amath_prm.json"), "--out", str(tmp_path / "marked.jsonl")]) == 0
    marked = read_records(tmp_path / "marked.jsonl", Chain).records
    assert [(c.steps, c.labels) for c in marked] == [
        (STEPS[:1], (1.0,)),
        (STEPS[:2], (None, 0.0)),
        (STEPS[:2], (None, 0.0)),
        (STEPS, (None, None, 1.0)),
    ]


def human(question: str, history: str, head: str = "") -> str:
    """A prompt as the published records have it."""
    return (
        f"<image>\n{head}{question}\nAnswer the question using a single word or phrase.\n\n"
        f"HISTORICAL REASONING STEPS:\n{history}\n\nYour task is to predict the next step of reasoning."
    )


def sft_row(value: str, step: str, image: str = "a.png", **more: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": value}, {"from": "gpt", "value": step}]
    return {"final_input_prompt": value, "image": image, "conversations": turns, "answer": "6", **more}


def test_published_sft_rows_are_joined_where_their_histories_meet(chains: Path) -> None:
    folder = chains.parent
    first, second, last = STEPS
    other = "Step 2: 4 + 2 = 7."
    rows = [
        sft_row(human("How many?", f"{first}\n\n{second}"), last),
        sft_row(human("How many?", ""), first),
        sft_row(human("How many?", first), second, answer=6),
        sft_row(human("How many?", first), other),  # another chain with the same beginning
        sft_row(human("Late?", f"{first}\n\n{second}", "THE GIVEN QUESTION:\n"), last),  # its beginning is not there
        sft_row(human("How many?", ""), first, image="gone.png"),
        sft_row(human("How many?", ""), ""),
        sft_row(human("How many?", ""), first, conversations=[{"from": "system", "value": "x"}]),
        sft_row("<image>\nNo template?", first),
        sft_row(human("How many?", "").replace("<image>", ""), first),
        {"something": "else"},
    ]
    (folder / "AMATH-SFT.json").write_text(json.dumps(rows))
    out = folder / "deep/chains.jsonl"
    assert main(["data", "read", str(folder / "AMATH-SFT.json"), "--out", str(out)]) == 0
    found = read_records(out, Chain)
    assert {(chain.question, chain.steps) for chain in found.records} == {
        ("How many?", STEPS),
        ("How many?", (first, other)),
        ("Late?", STEPS),
    }
    assert not found.rejects  # their pictures are found from where the file is
    rejects = lines(folder / "deep/chains.rejects.jsonl")
    assert [reject["where"] for reject in rejects] == [f"AMATH-SFT.json:{row}" for row in range(6, 12)]
    named = ("gone.png", "", "system", "HISTORICAL REASONING STEPS", "<image>", "conversations")
    assert all(part in reject["reason"] for reject, part in zip(rejects, named, strict=True))


def test_a_published_reply_may_be_a_number(chains: Path) -> None:
    file, out = chains.parent / "published.json", chains.parent / "read.jsonl"
    row = sft_row(human("How many?", ""), "")
    row["conversations"][1]["value"] = 6
    file.write_text(json.dumps([row]))
    assert main(["data", "read", str(file), "--out", str(out)]) == 0
    assert [chain.steps for chain in read_records(out, Chain).records] == [("6",)]


def test_published_prm_rows_have_one_label_per_tag(chains: Path) -> None:
    folder = chains.parent
    rows = [
        {"question": "How many?", "process": f"{STEPS[0]}\n\n{STEPS[1]}{TAG}", "label": ["+"]},
        {"question": "How many?", "process": f"{STEPS[0]}{TAG}{STEPS[1]}{TAG}", "label": ["+", "-"]},
        {"question": "How many?", "process": f"{STEPS[0]}{TAG}{STEPS[1]}{TAG}", "label": ["+"]},
        {"question": "How many?", "process": f"{STEPS[0]}", "label": []},
        {"question": "How many?", "process": f"{TAG}", "label": ["+"]},
        {"question": "How many?", "process": f"{STEPS[0]}{TAG}", "label": ["?"]},
    ]
    file = folder / "amath_prm.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{torn\n")
    assert main(["data", "read", str(file), "--out", str(folder / "read.jsonl")]) == 0
    found = [(chain.steps, chain.labels) for chain in read_records(folder / "read.jsonl", Chain).records]
    assert found == [(STEPS[:2], (None, 1.0)), (STEPS[:2], (1.0, 0.0))]
    rejects = lines(folder / "read.rejects.jsonl")
    assert [reject["where"] for reject in rejects] == [f"amath_prm.jsonl:{line}" for line in range(3, 8)]
    assert len({reject["reason"] for reject in rejects}) == 5  # each has a fault of its own


def test_published_records_that_are_damaged_cost_no_other(chains: Path) -> None:
    folder = chains.parent
    (folder / "huge.png").write_bytes(oversized())
    rows = [sft_row(human("How many?", ""), STEPS[0])]
    rows += [sft_row(human("Huge?", ""), STEPS[0], image="huge.png"), sft_row(human("Half?", ""), "\ud83d")]
    file = folder / "published.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    append(file, LATIN, b'{"question": ' + HALF.encode() + b', "process": "", "label": []}\n')
    assert main(["data", "read", str(file), "--out", str(folder / "read.jsonl")]) == 0
    assert [chain.question for chain in read_records(folder / "read.jsonl", Chain).records] == ["How many?"]
    rejects = lines(folder / "read.rejects.jsonl")
    assert [one["where"] for one in rejects] == [f"published.jsonl:{at}" for at in (2, 3, 4, 5)]
    assert "DecompressionBombError" in rejects[0]["reason"]
    assert "can't decode byte 0xe9" in rejects[2]["reason"]
