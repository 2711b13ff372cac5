from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from atomthink_plugin.api import Failure, Limits, Message, Node, Outcome, Question, Rollout, Usage
from atomthink_plugin.formats import Continue
from atomthink_plugin.runtime.journal import Journal, question_key
from atomthink_plugin.runtime.thinker import Thinker
from atomthink_plugin.searches.quick import quick
from atomthink_plugin.testing import ScriptedPolicy
from tests.trees import question, settings

NODE = Node("b", "a", "Step 1: 數 \u2028 \\frac{1}{2}", 0.5, -1.25, 7, 3, None, "repeats itself")
ROLLOUTS = (Rollout("b", None, 7, 0.125), Rollout("root", -0.25, 0, 0.25))
OUTCOME = Outcome("chain", "4", ("Step 1: x",), (None,), 0.5, "final", Usage(1, 2, 3, 4, 5, 6, 0.25), (NODE,), ROLLOUTS)


def open_journal(folder: FilePath, rank: int = 0) -> Journal:
    return Journal(folder, "run", {"seed": 0}, rank)


def test_an_outcome_comes_back_as_it_was(tmp_path: FilePath) -> None:
    open_journal(tmp_path).put(question(), OUTCOME)
    assert open_journal(tmp_path).get(question()) == OUTCOME


@given(cut=st.integers(1, 60))
def test_a_torn_last_line_is_ignored_and_what_follows_it_is_kept(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    first = open_journal(folder)
    first.put(question("a"), OUTCOME)
    first.put(question("b"), OUTCOME)
    first.close()
    file = first.folder / "rank0.jsonl"
    file.write_bytes(file.read_bytes()[:-cut])
    second = open_journal(folder)
    assert second.get(question("a")) == OUTCOME
    second.put(question("c"), OUTCOME)
    third = open_journal(folder)
    assert third.get(question("c")) == OUTCOME
    assert third.get(question("a")) == OUTCOME
    # One byte off the end is the newline alone: that record is whole.
    assert third.get(question("b")) == (OUTCOME if cut == 1 else None)


def test_every_process_reads_what_all_wrote(tmp_path: FilePath) -> None:
    open_journal(tmp_path, rank=0).put(question("a"), OUTCOME)
    open_journal(tmp_path, rank=1).put(question("b"), OUTCOME)
    for rank in (0, 1, 2):
        journal = open_journal(tmp_path, rank)
        assert (journal.get(question("a")), journal.get(question("b"))) == (OUTCOME, OUTCOME)


def test_a_failure_is_written_with_its_reason_and_not_read_back_as_done(tmp_path: FilePath) -> None:
    journal = open_journal(tmp_path)
    journal.put(question(), Failure("image 1 is truncated"))
    record = json.loads((journal.folder / "rank0.jsonl").read_text())
    assert (record["status"], record["failure"]["reason"]) == ("failed", "image 1 is truncated")
    assert open_journal(tmp_path).get(question()) is None


def test_the_key_changes_with_all_that_is_asked() -> None:
    red, blue = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    base = Question("q", (Message("user", ("How many?", red)),))
    variants = [
        base,
        replace(base, id="r"),
        replace(base, messages=(Message("user", ("How much?", red)),)),
        replace(base, messages=(Message("user", ("How many?", blue)),)),
        replace(base, messages=(Message("user", (red, "How many?")),)),
        replace(base, messages=(Message("system", ("Think.",)), *base.messages)),
        replace(base, limits=Limits(max_new_tokens=8)),
        replace(base, direct=True),
    ]
    assert len({question_key(variant) for variant in variants}) == len(variants)
    assert question_key(base) == question_key(replace(base, messages=(Message("user", ("How many?", red.copy())),)))


def test_a_value_that_json_has_no_word_for_survives(tmp_path: FilePath) -> None:
    open_journal(tmp_path).put(question(), replace(OUTCOME, value=math.inf))
    back = open_journal(tmp_path).get(question())
    assert back is not None
    assert back.value == math.inf


def test_a_journal_from_before_rollouts_were_kept_is_still_good(tmp_path: FilePath) -> None:
    journal = open_journal(tmp_path)
    journal.put(question(), OUTCOME)
    file = journal.folder / "rank0.jsonl"
    record = json.loads(file.read_text())
    del record["outcome"]["rollouts"]
    file.write_text(json.dumps(record) + "\n")
    assert open_journal(tmp_path).get(question()) == replace(OUTCOME, rollouts=())


RED = Image.new("RGB", (1300, 650), "red")
CLEAR = Image.new("RGBA", (4, 4), (0, 0, 0, 0))


def shown(*images: Image.Image, id: str = "q") -> Question:
    return Question(id, (Message("user", ("How many?", *images)),))


def records(journal: Journal) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (journal.folder / "rank0.jsonl").read_bytes().splitlines()]


def test_a_record_names_a_thumbnail_of_each_image_in_the_order_of_the_prompt(tmp_path: FilePath) -> None:
    journal = open_journal(tmp_path)
    journal.put(shown(RED, CLEAR, RED.copy()), OUTCOME)
    journal.put(shown(CLEAR, id="r"), Failure("the server was away"))
    journal.put(question(), OUTCOME)
    both, failed, none = (record["images"] for record in records(journal))
    assert both[0] == both[2] != both[1]
    assert (failed, none) == ([both[1]], [])
    files = {file.name: Image.open(file) for file in (journal.folder / "images").iterdir()}
    assert files.keys() == set(both)
    assert {(file.format, file.mode) for file in files.values()} == {("WEBP", "RGB")}
    assert (files[both[0]].size, files[both[1]].size) == ((640, 320), (4, 4))
    assert min(files[both[1]].getpixel((0, 0))) > 250  # type: ignore[arg-type,type-var]


def test_a_thumbnail_is_written_once_and_again_when_it_is_deleted(tmp_path: FilePath) -> None:
    journal = open_journal(tmp_path)
    journal.put(shown(RED), OUTCOME)
    (file,) = (journal.folder / "images").iterdir()
    first = file.stat().st_mtime_ns, file.stat().st_ino
    journal.put(shown(RED.copy(), id="r"), OUTCOME)
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == first
    file.unlink()
    journal.put(shown(RED, id="s"), OUTCOME)
    assert file.is_file()


def test_thumbnails_that_cannot_be_written_cost_no_question(
    tmp_path: FilePath, caplog: pytest.LogCaptureFixture
) -> None:
    journal = open_journal(tmp_path)
    (journal.folder / "images").write_text("not a folder")
    journal.put(shown(RED), OUTCOME)
    journal.put(shown(CLEAR, id="r"), OUTCOME)
    assert [record["status"] for record in records(journal)] == ["done", "done"]
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


def test_a_run_writes_thumbnails_of_what_it_asks(tmp_path: FilePath) -> None:
    journal = open_journal(tmp_path)
    policy = ScriptedPolicy({"": {"Step 1: The final answer is: 1.": 1.0}})
    Thinker(policy, None, Continue(), quick(), settings(), journal).run([shown(RED), shown(CLEAR, id="r")])
    assert {name for record in records(journal) for name in record["images"]} == {
        file.name for file in (journal.folder / "images").iterdir()
    }
