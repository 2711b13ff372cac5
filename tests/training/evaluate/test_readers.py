"""The formats of labelled sets: the chains of a record, rejects with their reasons, and counts that add up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.training.cli import SetFormat
from atomthink_plugin.training.evaluate.readers import FORMATS, LabelledSet, read_set
from atomthink_plugin.training.records import write_rejects
from tests.training.damaged_files import LATIN, append, oversized

STEPS = Path(__file__).parents[4] / "shared" / "data" / "steps"
real = pytest.mark.skipif(not STEPS.is_dir(), reason="the shared labelled steps are not on this machine")

PROCESSBENCH = {
    "id": "gsm8k-0",
    "generator": "Qwen2-7B-Instruct",
    "problem": "Sue has 18 flamingos.",
    "steps": ["First.", "Second.", "Third."],
    "final_answer_correct": False,
    "label": 1,
}
VISUAL = {
    "image": ["images/a.png"],
    "question": "Which number?",
    "answer": "B",
    "response": {"steps": ["One.", "Two.", "Three."], "process_correctness": [1, 0, -1]},
    "policy_model": "InternVL2.5-8B",
    "data_source": "MathVision",
}
PRMBENCH = {
    "original_question": "How long?",
    "modified_question": "How long, changed?",
    "original_process": ["One.", "Two."],
    "modified_process": ["1. One.", "2. Wrong.", "3. Three."],
    "modified_steps": [2],
    "error_steps": [2],
    "reason": "Step 2 is wrong.",
    "idx": "circular_prm_test_p1_0",
    "question": "How long?",
    "classification": "circular",
}
MISTAKE = {"input": "1 + 1 =", "steps": ["a", "b", "c"], "answer": "3", "target": "2", "mistake_index": 1}
CHAIN = {"id": "x", "question": "Q?", "steps": ["One.", "The answer is 4."], "answer": "4", "labels": [0.5, None]}


def lines(folder: Path, records: Sequence[Any], name: str = "set.jsonl") -> str:
    text = "\n".join(record if isinstance(record, str) else json.dumps(record) for record in records)
    (folder / name).write_text(text + "\n")
    return str(folder / name)


def picture(folder: Path, name: str = "images/a.png") -> bytes:
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    Image.new("RGB", (8, 8), (200, 10, 10)).save(file)
    return file.read_bytes()


def labels(found: LabelledSet) -> list[tuple[bool | None, ...]]:
    return [item.truth.labels for item in found.chains]


def reasons(found: LabelledSet) -> list[str]:
    return [reject.reason for reject in found.rejects]


def test_the_command_knows_the_formats() -> None:
    assert tuple(FORMATS) == get_args(SetFormat)


def test_processbench(tmp_path: Path) -> None:
    right = {**PROCESSBENCH, "id": "olympiadbench-7", "label": -1, "final_answer_correct": True}
    bad = [{**PROCESSBENCH, "id": "gsm8k-1", "label": 3}, {**PROCESSBENCH, "id": "gsm8k-2", "label": -2}]
    bad += [{**PROCESSBENCH, "id": "gsm8k-3", "steps": []}, {**PROCESSBENCH, "id": "gsm8k-4", "steps": ["a", " "]}]
    found = read_set(lines(tmp_path, [PROCESSBENCH, right, *bad, PROCESSBENCH]))
    assert found.format == "processbench"
    # Steps after the first error are not labelled, so they are neither right nor wrong.
    assert labels(found) == [(True, False, None), (True, True, True)]
    assert [(item.subset, item.right) for item in found.chains] == [("gsm8k", False), ("olympiadbench", True)]
    assert [item.truth.first_error_known for item in found.chains] == [True, True]
    assert (found.records, len(found.rejects)) == (7, 5)
    assert "3" in reasons(found)[0]  # the step that is not there
    assert [reason.partition(":")[0] for reason in reasons(found)[1:4]] == ["label", "steps", "steps.1"]
    assert "'gsm8k-0'" in reasons(found)[-1]
    assert [reject.where for reject in found.rejects] == [f"set.jsonl:{line}" for line in range(3, 8)]


def test_visualprocessbench(tmp_path: Path) -> None:
    picture(tmp_path)
    (tmp_path / "images/broken.png").write_bytes(b"no picture")
    short = {**VISUAL, "response": {"steps": ["One."], "process_correctness": [1, 1]}}
    odd = {**VISUAL, "response": {"steps": ["One."], "process_correctness": [2]}}
    as_text = {**VISUAL, "image": "images/a.png", "response": json.dumps(VISUAL["response"]), "data_source": "MMMU"}
    broken, missing = {**VISUAL, "image": ["images/broken.png"]}, {**VISUAL, "image": ["images/none.png"]}
    found = read_set(lines(tmp_path, [VISUAL, short, odd, as_text, broken, missing, "{torn"]))
    assert found.format == "visualprocessbench"
    assert labels(found) == [(True, None, False)] * 2
    assert [item.subset for item in found.chains] == ["MathVision", "MMMU"]
    # The neutral step may be the first error.
    assert [item.truth.first_error_known for item in found.chains] == [False, False]
    assert found.chains[0].given.engine_question().images[0].getpixel((0, 0)) == (200, 10, 10)
    assert (found.records, len(found.chains) + len(found.rejects)) == (7, 7)
    assert Counter(reason.partition(":")[0] for reason in reasons(found)) == {
        "2 labels for 1 steps": 1,
        "response.process_correctness.0": 1,
        "no JSON": 1,
        "image images/broken.png": 1,
        "image images/none.png": 1,
    }


def test_a_reference_answer_is_not_needed(tmp_path: Path) -> None:
    picture(tmp_path)
    visual = read_set(lines(tmp_path, [{**VISUAL, "answer": None, "data_source": None}], "visual.jsonl"))
    assert [(item.chain.answer, item.subset) for item in visual.chains] == [("", "visual")]
    mistake = read_set(lines(tmp_path, [{**MISTAKE, "target": None}]))
    assert [item.right for item in mistake.chains] == [None]
    own = read_set(lines(tmp_path, [{**CHAIN, "answer": None}]))
    assert [(item.right, item.truth.labels) for item in own.chains] == [(None, (True, None))]


def test_a_damaged_record_rejects_no_other(tmp_path: Path) -> None:
    picture(tmp_path)
    (tmp_path / "huge.png").write_bytes(oversized())
    file = Path(lines(tmp_path, [VISUAL, {**VISUAL, "image": ["huge.png"]}]))
    append(file, LATIN)
    found = read_set(str(file))
    assert (found.records, len(found.chains)) == (3, 1)
    assert [reject.where for reject in found.rejects] == ["set.jsonl:3", "id 'set.jsonl:2'"]
    assert "can't decode byte 0xe9" in reasons(found)[0]
    assert "DecompressionBombError" in reasons(found)[1]


def test_prmbench(tmp_path: Path) -> None:
    other = {**PRMBENCH, "idx": "prm_test_p1_0", "classification": "deception", "error_steps": [1, 3]}
    solution = {**PRMBENCH, "idx": "prm_test_p1_1", "classification": "multi_solutions", "error_steps": []}
    beyond = {**PRMBENCH, "idx": "prm_test_p1_2", "error_steps": [3, 4]}
    found = read_set(lines(tmp_path, [PRMBENCH, other, solution, beyond]))
    assert found.format == "prmbench"
    given = {item.chain.id: (item.truth.labels, item.subset, item.question) for item in found.chains}
    assert given == {
        "circular_prm_test_p1_0": ((True, False, True), "circular", "prm_test_p1_0"),
        "correct_prm_test_p1_0": ((True, True), "correct", "prm_test_p1_0"),  # once, though two records have it
        "deception_prm_test_p1_0": ((False, True, False), "deception", "prm_test_p1_0"),
        "multi_solutions_prm_test_p1_1": ((True, True, True), "multi_solutions", "prm_test_p1_1"),
        "correct_prm_test_p1_1": ((True, True), "correct", "prm_test_p1_1"),
    }
    assert [item.chain.question for item in found.chains[:2]] == ["How long, changed?", "How long?"]
    (reason,) = reasons(found)
    assert reason.startswith("error_steps: [4]")


def test_bigbench_mistake(tmp_path: Path) -> None:
    clean = {**MISTAKE, "mistake_index": None, "answer": "2 "}
    first = {**MISTAKE, "mistake_index": 0, "task": "word_sorting"}
    unknown = {key: value for key, value in MISTAKE.items() if key != "mistake_index"}
    found = read_set(lines(tmp_path, [MISTAKE, clean, first, unknown], "multistep_arithmetic.jsonl"))
    assert found.format == "bigbench_mistake"
    assert labels(found) == [(True, False, None), (True, True, True), (False, None, None)]
    assert [item.right for item in found.chains] == [False, True, False]
    assert [item.subset for item in found.chains] == ["multistep_arithmetic", "multistep_arithmetic", "word_sorting"]
    assert [reason.partition(":")[0] for reason in reasons(found)] == ["mistake_index"]


def test_chains(tmp_path: Path) -> None:
    wrong = {**CHAIN, "id": "y", "steps": ["One.", "The answer is 5."]}
    beginning = {**CHAIN, "id": "z", "steps": ["One.", "Two."]}
    bare = {key: value for key, value in CHAIN.items() if key != "labels"} | {"id": "u"}
    found = read_set(lines(tmp_path, [CHAIN, wrong, beginning, bare, {**CHAIN, "id": "v", "labels": [2, 1]}]))
    assert found.format == "chains"
    assert labels(found) == [(True, None)] * 3  # a half is right
    assert [item.right for item in found.chains] == [True, False, None]
    assert len({item.question for item in found.chains}) == 1
    assert [reason.partition(":")[0] for reason in reasons(found)] == ["labels", "labels.0"]


def test_all_kinds_of_files_give_the_same_chains(tmp_path: Path) -> None:
    (tmp_path / "folder/data").mkdir(parents=True)
    records = [{**PROCESSBENCH, "id": f"math-{i}"} for i in range(3)]
    expected = labels(read_set(lines(tmp_path, records)))
    (tmp_path / "set.json").write_text(json.dumps(records))
    lines(tmp_path, records, "lines.json")
    parquet.write_table(pyarrow.Table.from_pylist(records), tmp_path / "folder/data/math-00000-of-00001.parquet")
    for source in ("set.json", "lines.json", "folder"):
        assert labels(read_set(str(tmp_path / source))) == expected, source
    assert len(read_set(str(tmp_path / "folder"), limit=2).chains) == 2


def test_images_may_be_in_the_parquet_file(tmp_path: Path) -> None:
    content = picture(tmp_path)
    rows = [{**VISUAL, "image": [{"bytes": content, "path": "a.png"}]}]
    rows.append({**VISUAL, "image": [{"bytes": b"broken", "path": "b.png"}]})
    rows.append({**VISUAL, "image": [{"bytes": b"unused", "path": "c.png"}], "question": ""})
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "test-00000-of-00001.parquet")
    found = read_set(str(tmp_path / "test-00000-of-00001.parquet"))
    assert found.chains[0].given.engine_question().images[0].getpixel((0, 0)) == (200, 10, 10)
    assert len(found.rejects) == 2
    assert write_rejects(tmp_path / "rejects.jsonl", found.rejects) == 2
    assert (
        json.loads((tmp_path / "rejects.jsonl").read_text().splitlines()[0])["record"]["image"][0]["bytes"] == "6 bytes"
    )


def test_errors_name_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(AtomThinkError, match=r"\(a\).*--format chains\|processbench\|"):
        read_set(lines(tmp_path, [{"a": 1}]))
    with pytest.raises(AtomThinkError, match=r"1 rejected; the first: set.jsonl:1: id: "):
        read_set(lines(tmp_path, [{"a": 1}]), "processbench")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    for name in ("none.jsonl", "nowhere", "empty", "bad.parquet"):
        with pytest.raises(AtomThinkError, match=name):
            read_set(str(tmp_path / name))


@real
def test_every_record_of_bigbench_mistake_is_used() -> None:
    found = read_set(str(STEPS / "bigbench_mistake.jsonl"))
    assert (found.format, found.records, len(found.chains), len(found.rejects)) == ("bigbench_mistake", 1200, 1200, 0)
    assert sum(item.truth.first_error is None for item in found.chains) == 142
    assert Counter(item.subset for item in found.chains) == dict.fromkeys(
        ("logical_deduction", "word_sorting", "tracking_shuffled_objects", "multistep_arithmetic"), 300
    )
    # 0-based: of the second one the third step says 5 + 3 - -2 * 2 = 4, and the last step of some is the mistake.
    third = found.chains[2]
    assert third.truth.first_error == 2
    assert third.chain.steps[2].endswith("= (5 + 3 - -2 * 2) = (5 + 3 - 4) = 4.")
    assert any(item.truth.first_error == len(item.chain.steps) - 1 for item in found.chains)


@real
def test_every_record_of_prmbench_is_used_or_rejected() -> None:
    found = read_set(str(STEPS / "prmbench_400.jsonl"))
    kinds = Counter(item.subset for item in found.chains)
    originals = kinds.pop("correct")
    assert (found.format, found.records) == ("prmbench", 394)
    assert (kinds.total(), len(found.rejects)) == (383, 11)
    assert all(reason.startswith("error_steps: ") for reason in reasons(found))
    used = {item.question for item in found.chains}
    assert originals == len(used) <= 150
    assert kinds["multi_solutions"] == 10
    first = found.chains[0]
    assert [index for index, label in enumerate(first.truth.labels) if not label] == [4, 5]  # steps 5 and 6
