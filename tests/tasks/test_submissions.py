"""Submission files from incomplete, damaged or other runs. Complete ones are in `test_benchmarks_cli.py`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from atomthink_plugin.cli import main
from atomthink_plugin.tasks.benchmarks.benchmark import Benchmark
from atomthink_plugin.tasks.benchmarks.mathverse.task import MATHVERSE
from atomthink_plugin.tasks.benchmarks.mathvision.task import MATHVISION
from atomthink_plugin.tasks.benchmarks.mathvista.task import MATHVISTA
from atomthink_plugin.tasks.benchmarks.metrics import sample_line
from tests.tasks.tiny_benchmarks import VERSIONS, mathverse_rows, mathvision_rows, mathvista_rows

TEMPLATES = Path(__file__).parents[3] / "shared" / "data" / "submissions"

OFFICIAL = {
    "mathvista": "mathvista_output_testmini.json",
    "mathverse": "mathverse_output_testmini.json",
    "mathvision": "mathvision_output.jsonl",
}


def lay(folder: Path, tasks: dict[str, tuple[Benchmark, Sequence[dict[str, Any]]]], size: int | None = None) -> Path:
    """Writes a run in which every question was answered rightly."""
    folder.mkdir(exist_ok=True)
    sizes = {name: {"original": size or len(docs)} for name, (_, docs) in tasks.items()}
    results = {"n-samples": sizes, "config": {"model": "mine"}, "model_name": "mine"}
    (folder / "20261121_120000_results.json").write_text(json.dumps(results))
    for name, (benchmark, docs) in tasks.items():
        lines = []
        for doc_id, doc in enumerate(docs):
            reply = f"The final answer is: {doc['answer']}."
            lines.append({"doc_id": doc_id, "filtered_resps": reply, **sample_line(benchmark, doc, reply)})
        (folder / f"20261121_120000_samples_{name}.jsonl").write_text(
            "".join(json.dumps(line) + "\n" for line in lines)
        )
    return folder


def vista(folder: Path, size: int | None = None, **changes: Any) -> Path:
    rows = mathvista_rows("testmini")
    return lay(folder, {"vista": (MATHVISTA, [rows[0] | changes, *rows[1:]])}, size)


@pytest.mark.parametrize(
    ("size", "changes", "named"),
    [
        (7, {}, "--allow-incomplete"),
        (5, {}, "question 5"),
        (None, {"pid": "1001"}, "'1001'"),
        (None, {"pid": "0"}, "'0'"),
        (None, {"pid": "x"}, "'x'"),
        (None, {"pid": "2"}, "--task"),
        (None, {"answer_type": "essay"}, "answer_type"),
    ],
)
def test_a_run_that_does_not_fit_is_an_error_and_nothing_is_written(
    tmp_path: Path, size: int | None, changes: dict[str, Any], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = vista(tmp_path / "run", size, **changes)
    assert main(["submit", "mathvista", str(run)]) == 2
    assert named in capsys.readouterr().err
    assert not (run / "submissions").exists()


def test_the_two_splits_of_mathvista_are_never_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    splits = {split: (MATHVISTA, mathvista_rows(split)) for split in ("testmini", "test")}
    run = lay(tmp_path / "run", splits)
    assert main(["submit", "mathvista", str(run)]) == 2
    assert "--task" in capsys.readouterr().err


@pytest.mark.parametrize("benchmark", ["mathverse", "mathvision"])
def test_the_error_of_a_run_without_the_benchmark_names_its_tasks(
    tmp_path: Path, benchmark: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", benchmark, str(vista(tmp_path / "run"))]) == 2
    message = capsys.readouterr().err
    assert all(name in message for name in (benchmark, "vista", f"{benchmark}_atomic"))


def test_runs_are_found_by_folder_or_file_and_never_guessed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "mathvista", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err
    run = vista(tmp_path / "run")
    (run / "submissions").mkdir()
    (run / "submissions/mathverse_testmini_results.json").write_text("[]")  # lmms-eval's own tasks leave it
    assert main(["submit", "mathvista", str(tmp_path)]) == 0
    vista(tmp_path / "other")
    assert main(["submit", "mathvista", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert str(tmp_path) in message
    assert main(["submit", "mathvista", str(run / "20261121_120000_results.json")]) == 0
    assert capsys.readouterr().out.strip() == str(run / "submissions/output_mathvista_vista.json")
    (run / "20261121_120000_samples_vista.jsonl").write_text("{")
    assert main(["submit", "mathvista", str(run)]) == 2
    assert "samples_vista.jsonl" in capsys.readouterr().err


def test_mathverses_text_only_version_is_a_file_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = {"verse": (MATHVERSE, mathverse_rows(VERSIONS)), "text": (MATHVERSE, mathverse_rows(["Text Only"]))}
    run = lay(tmp_path / "run", tasks)
    assert main(["submit", "mathverse", str(run)]) == 0
    files = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [file.name for file in files] == ["output_mathverse.json", "output_mathverse_text_only.json"]
    with_images, text_only = (json.loads(file.read_text()) for file in files)
    assert [entry["sample_index"] for entry in with_images] == [str(n) for n in range(1, 11)]
    assert {entry["problem_version"] for entry in text_only} == {"Text Only"}
    assert {entry["image"] for entry in text_only} == {""}


@pytest.mark.skipif(not TEMPLATES.is_dir(), reason="the official templates are not on this machine")
@pytest.mark.parametrize("benchmark", ["mathvista", "mathverse", "mathvision"])
def test_entries_have_the_fields_of_the_official_files(tmp_path: Path, benchmark: str) -> None:
    docs = {
        "mathvista": (MATHVISTA, mathvista_rows("testmini")),
        "mathverse": (MATHVERSE, mathverse_rows(VERSIONS)),
        "mathvision": (MATHVISION, mathvision_rows()),
    }
    file = tmp_path / "output"
    run = lay(tmp_path / "run", {"task": docs[benchmark]})
    assert main(["submit", benchmark, str(run), "--out", str(file)]) == 0
    assert kinds(benchmark, file) == kinds(benchmark, TEMPLATES / OFFICIAL[benchmark])


def kinds(benchmark: str, file: Path) -> dict[str, type]:
    """The kind of file, and the fields of its first entry with the kinds of their values."""
    if benchmark == "mathvision":
        entry = json.loads(file.read_text().splitlines()[0])
        return {"": str, **{name: type(value) for name, value in entry.items()}}
    whole = json.loads(file.read_text())
    entry = whole["1"] if benchmark == "mathvista" else whole[0]
    return {"": type(whole), **{name: type(value) for name, value in entry.items() if name != "unit"}}
