"""One reader for files, folders and datasets: which rows there are, which columns are read, and that counts add up."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.json_rows import Reject
from atomthink_plugin.source_rows import SourceRow, open_source
from atomthink_plugin.training.sources import read_questions
from tests.training.damaged_files import LATIN, append, oversized

HUB = Path(__file__).parents[3] / "shared/data/hub/MathLLMs/MathVision"
ROWS = [{"pid": n, "problem": f"What is {n}?", "label": str(n)} for n in range(4)]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def write(file: Path, rows: Sequence[dict[str, Any]] = ROWS) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(list(rows)), file)
    elif file.suffix == ".csv":
        with file.open("w", newline="") as out:
            writer = csv.DictWriter(out, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    else:
        listed = json.dumps(rows) if file.suffix == ".json" else "".join(json.dumps(row) + "\n" for row in rows)
        file.write_text(listed)
    return file


def fields(source: Path | str, **options: Any) -> list[dict[str, Any]]:
    return [dict(row.fields) for row in open_source(str(source), **options).rows if isinstance(row, SourceRow)]


def png(colour: tuple[int, int, int]) -> bytes:
    out = BytesIO()
    Image.new("RGB", (4, 4), colour).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("name", ["set.jsonl", "set.json", "set.parquet", "set.csv", "folder/data/set.parquet"])
def test_the_same_rows_come_from_every_kind_of_source(name: str, tmp_path: Path) -> None:
    file = write(tmp_path / name)
    source = tmp_path / "folder" if "folder" in name else file
    found = [row for row in open_source(str(source)).rows if isinstance(row, SourceRow)]
    assert [{**row.fields, "label": str(row.fields["label"])} for row in found] == ROWS
    assert {(row.split, row.folder) for row in found} == {("set", file.parent)}
    assert len({row.where for row in found}) == len(ROWS)
    assert list(open_source(str(source)).columns) == list(ROWS[0])
    assert len(fields(source, limit=2)) == 2


def test_files_of_a_folder_are_splits_and_shards_are_joined(tmp_path: Path) -> None:
    write(tmp_path / "data/train-00000-of-00002.parquet", ROWS[:1])
    write(tmp_path / "data/train-00001-of-00002.parquet", ROWS[1:3])
    write(tmp_path / "test.jsonl", ROWS[3:])
    assert fields(tmp_path, split="train") == ROWS[:3]
    assert fields(tmp_path, split="test") == ROWS[3:]
    everything = [row for row in open_source(str(tmp_path), all_splits=True).rows if isinstance(row, SourceRow)]
    assert sorted(row.split for row in everything) == ["test", "train", "train", "train"]
    assert len({row.where for row in everything}) == 4
    for split in (None, "valid"):
        with pytest.raises(AtomThinkError, match="--split") as error:
            open_source(str(tmp_path), split=split)
        assert {"train", "test"} <= set(str(error.value).replace(",", "").replace(":", "").split())


def test_a_damaged_line_costs_itself_alone_and_counts_as_read(tmp_path: Path) -> None:
    file = write(tmp_path / "set.jsonl")
    append(file, LATIN, b"[7]\n", b'{"torn')
    rows = list(open_source(str(file)).rows)
    rejects = [row for row in rows if isinstance(row, Reject)]
    assert len(rows) == len(ROWS) + 3
    assert [reject.where for reject in rejects] == ["set.jsonl:5", "set.jsonl:6", "set.jsonl:7"]
    assert [reject.record for reject in rejects][1:] == [[7], '{"torn']
    assert len(list(open_source(str(file), limit=6).rows)) == 6
    found = read_questions(str(file), tmp_path / "out")
    assert ([record.answer for record in found.records], found.read) == (["0", "1", "2", "3"], len(rows))


@pytest.mark.parametrize("name", ["none.jsonl", "none.parquet", "nowhere", "empty", "bad.parquet", "bad.csv"])
def test_a_source_that_cannot_be_read_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for bad in ("bad.parquet", "bad.csv"):
        (tmp_path / bad).write_bytes(b"")
    with pytest.raises(AtomThinkError, match=name):
        list(open_source(str(tmp_path / name)).rows)


def test_columns_are_found_by_their_usual_names_or_given(tmp_path: Path) -> None:
    rows = [{**row, "text": f"Other {row['pid']}?", "choices": ["a", "b"], "dataset": "D"} for row in ROWS]
    file = write(tmp_path / "set.jsonl", rows)
    first = read_questions(str(file), tmp_path / "out").records[0]
    assert first.model_dump() == {
        "id": "0",
        "question": "What is 0?\nChoices: A. a\nB. b",
        "images": (),
        "answer": "0",
        "solution": "",
        "options": ("a", "b"),
        "source": "D",
    }
    named = read_questions(str(file), tmp_path / "out", columns={"question": "text", "answer": "pid"}, limit=2)
    assert [(one.question.split("\n")[0], one.answer) for one in named.records] == [
        ("Other 0?", "0"),
        ("Other 1?", "1"),
    ]
    for columns in ({"question": "none"}, {"picture": "text"}):
        (field, column), *_ = columns.items()
        with pytest.raises(AtomThinkError, match=f"--columns {field}={column}"):
            read_questions(str(file), tmp_path / "out", columns=columns)
    bare = write(tmp_path / "bare.jsonl", [{"text": "?"}])
    with pytest.raises(AtomThinkError, match="--columns question=NAME"):
        read_questions(str(bare), tmp_path / "out")


def test_questions_that_cannot_be_used_are_rejects(tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(png((9, 9, 9)))
    (tmp_path / "huge.png").write_bytes(oversized())
    good = {"id": "a", "question": "See <image1> here?", "answer": 4, "image": "good.png"}
    rows = [
        good,
        good,
        *({**good, "id": f"image {name}", "image": name} for name in ("huge.png", "none.png", 7)),
        *({**good, "id": f"answer {answer!r}", "answer": answer} for answer in (None, " ")),
        {**good, "id": "empty", "question": " "},
        {**good, "id": "two", "question": "Are <image1> and <image2> equal?", "image": ["good.png", None, "good.png"]},
    ]
    found = read_questions(str(write(tmp_path / "set.jsonl", rows)), tmp_path / "out")
    assert [record.id for record in found.records] == ["a", "two"]
    assert [record.question for record in found.records] == ["See here?", "Are <image1> and <image2> equal?"]
    assert [reject.where for reject in found.rejects] == [f"set.jsonl:{line}" for line in range(2, 9)]
    causes = [reject.reason.split(":")[0] for reject in found.rejects[1:]]
    assert causes == ["image", "image", "image", "answer", "answer", "question"]
    assert found.folder == tmp_path / "out"
    first, second = found.records[1].images
    assert first == second == found.records[0].images[0]  # stored once
    assert (found.folder / first).read_bytes() == png((9, 9, 9))
    with pytest.raises(AtomThinkError, match=r"set\.jsonl:1"):
        read_questions(str(write(tmp_path / "set.jsonl", rows[2:3])), tmp_path / "out")


def test_images_of_a_dataset_are_stored_as_they_are_and_preferred_to_file_names(tmp_path: Path) -> None:
    import datasets

    contents = [png((250, 0, 0)), png((0, 250, 0)), b"broken"]
    rows = [
        {"question": "?", "answer": "1", "image": "images/1.png", "picture": {"bytes": content, "path": None}}
        for content in contents
    ]
    table = datasets.Dataset.from_list(rows).cast_column("picture", datasets.Image(decode=False))
    (tmp_path / "data").mkdir()
    table.cast_column("picture", datasets.Image()).to_parquet(tmp_path / "data/train-00000-of-00001.parquet")
    found = read_questions(str(tmp_path), tmp_path / "out")
    assert [(found.folder / record.images[0]).read_bytes() for record in found.records] == contents[:2]
    assert [reject.reason.split(":")[0] for reject in found.rejects] == ["image"]
    assert len({record.id for record in found.records}) == 2  # without a column of ids


@pytest.mark.skipif(not HUB.is_dir(), reason="MATH-Vision's questions are not on this machine")
def test_every_question_of_mathvision_is_read(tmp_path: Path) -> None:
    found = read_questions(str(HUB), tmp_path)
    assert (len(found.records), found.rejects) == (304, [])
    assert all(record.images and record.answer for record in found.records)
