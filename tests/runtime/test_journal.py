from __future__ import annotations

import errno
import json
import math
import os
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any, BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from atomthink_plugin.api import (
    AtomThinkError,
    Failure,
    Limits,
    Message,
    Node,
    Outcome,
    Question,
    Result,
    Rollout,
    Usage,
)
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.report.journals import read_journal
from atomthink_plugin.runtime.journal import Journal
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.searches.quick import quick
from atomthink_plugin.testing import ScriptedPolicy
from atomthink_plugin.training.pairs import PairCounts, finished_searches, journal_files
from tests.trees import question, settings

NODE = Node("b", "a", "Step 1: 數 \u2028 \\frac{1}{2}", 0.5, -1.25, 7, 3, None, "repeats itself")
ROLLOUTS = (Rollout("b", None, 7, 0.125), Rollout("root", -0.25, 0, 0.25))
OUTCOME = Outcome("chain", "4", ("Step 1: x",), (None,), 0.5, "final", Usage(1, 2, 3, 4, 5, 6, 0.25), (NODE,), ROLLOUTS)


def open_journal(folder: FilePath, rank: int = 0) -> Journal:
    return Journal(folder, "run", {"seed": 0}, rank)


def written(folder: FilePath, *results: tuple[Question, Result], rank: int = 0) -> FilePath:
    """Writes results to a journal as one run, and returns its file."""
    with closing(open_journal(folder, rank)) as journal:
        for asked, result in results:
            journal.put(asked, result)
        return journal.folder / f"rank{rank}.jsonl"


def known(folder: FilePath, *asked: Question, rank: int = 0) -> list[Outcome | None]:
    """The outcomes that the next run reads."""
    with closing(open_journal(folder, rank)) as journal:
        return [journal.get(one) for one in asked]


A, B, C = (question(id) for id in "abc")


def test_an_outcome_comes_back_as_it_was(tmp_path: FilePath) -> None:
    written(tmp_path, (A, OUTCOME))
    assert known(tmp_path, A) == [OUTCOME]


@given(cut=st.integers(1, 60))
def test_an_incomplete_last_line_is_ignored_and_later_records_are_read(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    file = written(folder, (A, OUTCOME), (B, OUTCOME))
    file.write_bytes(file.read_bytes()[:-cut])
    written(folder, (C, OUTCOME))
    # Without its last byte, the line break, the record is still complete.
    assert known(folder, A, B, C) == [OUTCOME, OUTCOME if cut == 1 else None, OUTCOME]


def test_every_process_reads_the_records_of_all(tmp_path: FilePath) -> None:
    written(tmp_path, (A, OUTCOME), rank=0)
    written(tmp_path, (B, OUTCOME), rank=1)
    for rank in (0, 1, 2):
        assert known(tmp_path, A, B, rank=rank) == [OUTCOME, OUTCOME]


def test_a_failure_is_written_with_its_reason_and_not_read_back_as_done(tmp_path: FilePath) -> None:
    file = written(tmp_path, (A, Failure("image 1 is truncated")))
    record = json.loads(file.read_text())
    assert (record["status"], record["failure"]["reason"]) == ("failed", "image 1 is truncated")
    assert known(tmp_path, A) == [None]


def test_the_key_depends_on_every_part_of_a_question() -> None:
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
    assert len({variant.key for variant in variants}) == len(variants)
    assert base.key == replace(base, messages=(Message("user", ("How many?", red.copy())),)).key


def test_an_infinite_value_is_restored(tmp_path: FilePath) -> None:
    endless = replace(OUTCOME, value=math.inf)
    written(tmp_path, (A, endless))
    assert known(tmp_path, A) == [endless]


def test_a_journal_without_checksums_and_rollouts_is_read(tmp_path: FilePath) -> None:
    file = written(tmp_path, (A, OUTCOME))
    record = json.loads(file.read_text())
    del record["outcome"]["rollouts"], record["checksum"], record["images"], record["choices"]
    file.write_text(json.dumps(record) + "\n")
    assert known(tmp_path, A) == [replace(OUTCOME, rollouts=())]


@given(data=st.data())
def test_no_flipped_byte_changes_an_outcome(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("journal")
    file = written(folder, (A, OUTCOME), (B, OUTCOME))
    content = bytearray(file.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    hit, before = content[:at].count(b"\n"), content[at]
    content[at] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    outcomes = known(folder, A, B)
    assert all(outcome in (None, OUTCOME) for outcome in outcomes)
    # If a line break appeared or disappeared, the other record may be lost as well.
    assert outcomes[1 - hit] == OUTCOME or ord("\n") in (before, content[at])


def test_a_damaged_line_affects_no_other_line(tmp_path: FilePath, caplog: pytest.LogCaptureFixture) -> None:
    file = written(tmp_path, (A, OUTCOME))
    garbage = [b"[" * 100_000, b"[]", b"7", b"\xff\xfe", b'{"status": "done"}', b'{"a": ' * 50_000, b"1" * 5_000]
    file.write_bytes(b"\n".join([*garbage, file.read_bytes()]))
    assert known(tmp_path, A) == [OUTCOME]
    assert len(caplog.records) == len(garbage)


def test_folders_and_broken_links_named_like_journal_files_are_ignored(
    tmp_path: FilePath, caplog: pytest.LogCaptureFixture
) -> None:
    file = written(tmp_path, (A, OUTCOME))
    file.with_name("rank1.jsonl").mkdir()
    file.with_name("rank2.jsonl").symlink_to(tmp_path / "nowhere")
    assert known(tmp_path, A) == [OUTCOME]
    named = " ".join(record.getMessage() for record in caplog.records)
    assert "rank1.jsonl" in named
    assert "rank2.jsonl" in named


def test_a_folder_in_place_of_the_file_is_named(tmp_path: FilePath) -> None:
    file = written(tmp_path, rank=0)
    file.unlink()
    file.mkdir()
    with pytest.raises(AtomThinkError, match=r"rank0\.jsonl") as kept:  # the traceback keeps the journal alive
        open_journal(tmp_path)
    file.rmdir()
    assert known(tmp_path, A) == [None]  # the lock is free
    assert kept.value


def test_a_second_run_is_refused_while_the_first_runs(tmp_path: FilePath) -> None:
    with closing(open_journal(tmp_path)) as first:
        with pytest.raises(AtomThinkError) as caught:
            open_journal(tmp_path)
        assert all(part in str(caught.value) for part in (str(os.getpid()), "`journal=FOLDER`", str(first.folder)))
        with closing(open_journal(tmp_path, rank=1)) as sibling:
            sibling.put(B, OUTCOME)
        first.put(A, OUTCOME)
        assert [entry["question"] for entry in records(first)] == ["a"]
    assert known(tmp_path, A, B) == [OUTCOME, OUTCOME]


@pytest.mark.parametrize("moved", [False, True])
def test_a_folder_deleted_during_the_run_is_restored(
    moved: bool, tmp_path: FilePath, caplog: pytest.LogCaptureFixture
) -> None:
    written(tmp_path, (A, OUTCOME))
    with closing(open_journal(tmp_path)) as journal:
        journal.put(B, OUTCOME)
        if moved:
            journal.folder.rename(tmp_path / "elsewhere")
        else:
            shutil.rmtree(journal.folder)
        journal.put(C, OUTCOME)
        assert [journal.get(one) for one in (A, B, C)] == [OUTCOME] * 3
        assert (journal.folder / "settings.json").is_file()
        with pytest.raises(AtomThinkError):  # the new folder is locked, too
            open_journal(tmp_path)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert known(tmp_path, A, B, C) == [OUTCOME] * 3


def test_a_deleted_file_is_restored_after_another_runs_records(tmp_path: FilePath) -> None:
    with closing(open_journal(tmp_path)) as journal:
        journal.put(A, OUTCOME)
        shutil.rmtree(journal.folder)
        written(tmp_path, (B, OUTCOME))
        assert journal.get(A) == OUTCOME
        journal.put(C, OUTCOME)
        assert [journal.get(one) for one in (A, C)] == [OUTCOME] * 2
    assert known(tmp_path, A, B, C) == [OUTCOME] * 3


def test_questions_in_a_deleted_file_of_another_process_are_asked_again(tmp_path: FilePath) -> None:
    file = written(tmp_path, (A, OUTCOME), rank=1)
    with closing(open_journal(tmp_path)) as journal:
        file.unlink()
        assert journal.get(A) is None


def test_a_full_disk_is_an_error_and_leaves_complete_lines(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: BinaryIO, content: bytes) -> None:
        file.write(content[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    with closing(open_journal(tmp_path)) as journal:
        journal.put(A, OUTCOME)
        with monkeypatch.context() as patch:
            patch.setattr("atomthink_plugin.append_log.write_all", full)
            with pytest.raises(AtomThinkError, match="No space left"):
                journal.put(B, OUTCOME)
        journal.put(C, OUTCOME)
    assert known(tmp_path, A, B, C) == [OUTCOME, None, OUTCOME]
    assert (journal.folder / "rank0.jsonl").read_bytes().count(b"\n") == 2


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


def test_a_thumbnail_is_written_once_unless_it_is_deleted(tmp_path: FilePath) -> None:
    journal = open_journal(tmp_path)
    journal.put(shown(RED), OUTCOME)
    (file,) = (journal.folder / "images").iterdir()
    first = file.stat().st_mtime_ns, file.stat().st_ino
    journal.put(shown(RED.copy(), id="r"), OUTCOME)
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == first
    file.unlink()
    journal.put(shown(RED, id="s"), OUTCOME)
    assert file.is_file()


def test_thumbnails_that_cannot_be_written_fail_no_question(
    tmp_path: FilePath, caplog: pytest.LogCaptureFixture
) -> None:
    journal = open_journal(tmp_path)
    (journal.folder / "images").write_text("not a folder")
    journal.put(shown(RED), OUTCOME)
    journal.put(shown(CLEAR, id="r"), OUTCOME)
    assert [record["status"] for record in records(journal)] == ["done", "done"]
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


def test_a_run_writes_thumbnails_of_its_images(tmp_path: FilePath) -> None:
    journal = open_journal(tmp_path)
    policy = ScriptedPolicy({"": {"Step 1: The final answer is: 1.": 1.0}})
    Runner(policy, None, Continue(), quick(), settings(), journal).run([shown(RED), shown(CLEAR, id="r")])
    assert {name for record in records(journal) for name in record["images"]} == {
        file.name for file in (journal.folder / "images").iterdir()
    }


def test_no_command_takes_a_damaged_line_for_a_record(tmp_path: FilePath, caplog: pytest.LogCaptureFixture) -> None:
    sums = [question(f"sums/test/{i}/0") for i in range(2)]
    with closing(open_journal(tmp_path)) as journal:
        for one in sums:
            journal.put(one, OUTCOME)
        file = journal.folder / "rank0.jsonl"
        file.write_bytes(file.read_bytes().replace(b"chain", b"chaos", 1))
        file.with_name("rank7.jsonl").mkdir()
        # Read while it is being written.
        kept, counts = read_journal(journal.folder), PairCounts()
        found = list(finished_searches(journal_files(journal.folder), counts))
    assert ([entry.doc_id for entry in kept.entries], kept.damaged) == ([1], 1)
    assert [entry.question for entry, _ in found] == [sums[1].id]
    assert [reject.where for reject in counts.rejects] == ["rank0.jsonl:1"]
