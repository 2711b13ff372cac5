"""What lmms-eval's command line does with a mistake, and what a call from Python does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import commands

SCRIPT = Path(__file__).with_name("many_command_lines.py")
RUNS = """
- {model: atomthink_tiny, model_args: 'thinking=fast'}
- {model: atomthink_tiny, gen_kwargs: 'temprature=0'}
- {model: atomthink_tiny, model_args: {thinking: quick}}
"""
MISTAKES: dict[str, tuple[list[str], list[str]]] = {
    "unknown": (["--model_args", "thinking=slow,serach=beam"], ["`serach`", "`search`"]),
    "doubled": (["--model_args", "thinking=slow,thinking=quick"], ["--model_args", "`thinking`"]),
    "without a value": (["--model_args", "thinking"], ["--model_args", "`thinking`"]),
    "a negative number": (["--model_args", "thinking=slow,search=best_of_n,n=-3"], ["`n=-3`"]),
    "in a file": (["--model_args", "config=run.yaml"], ["`colour`"]),
    "generation": (["--gen_kwargs", "temprature=0.7"], ["--gen_kwargs", "`temprature`", "`temperature`"]),
    "generation, doubled": (["--gen_kwargs", "top_p=1,top_p=0.5"], ["--gen_kwargs", "`top_p`"]),
    "generation, a value": (["--gen_kwargs", "temperature=-1"], ["--gen_kwargs", "`temperature=-1`"]),
    "several runs": (["--config", "runs.yaml"], ["`thinking=fast`", "`temprature`", "--model_args"]),
}
RIGHT = ["--model_args", "thinking=slow,search=beam", "--gen_kwargs", "temperature=0.7,max_new_tokens=9"]


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, str]]:
    """Status and standard error of each command line."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "runs.yaml").write_text(RUNS)
    (folder / "run.yaml").write_text("colour: red\n")
    tiny = ["--model", "atomthink_tiny"]
    lines = {name: [*tiny, *options] for name, (options, _) in MISTAKES.items()}
    lines |= {"right": [*tiny, *RIGHT], "another model": ["--model", "dummy", "--gen_kwargs", "num_beams=2"]}
    (folder / "empty.yaml").write_text("- {model: atomthink_tiny, model_args: , gen_kwargs: }\n")
    lines["empty in a file"] = ["--config", "empty.yaml"]
    lines["nothing to load"] = ["--model", "atomthink_hf"]
    typed = json.dumps([[*line, "--tasks", "atomthink_demo"] for line in lines.values()])
    done = commands.run("python", SCRIPT, typed, cwd=folder, env=commands.environment(folder / "cache"))
    assert done.returncode == 0, done.stderr
    return dict(zip([*lines, "from Python"], json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_a_status_before_task_files_are_read(
    ends: dict[str, tuple[Any, str]], name: str
) -> None:
    status, said = ends[name]
    lines = [line for line in said.splitlines() if line.startswith("atomthink:")]
    assert status == 2
    assert "Traceback" not in said
    assert len(lines) == (3 if name == "several runs" else 1)
    assert all(part in said for part in MISTAKES[name][1])


@pytest.mark.slow
def test_other_errors_of_our_runs_end_with_a_status_and_other_models_are_left_alone(
    ends: dict[str, tuple[Any, str]],
) -> None:
    assert ends["right"][0] == 1
    assert "TasksAreReadError" in ends["right"][1]
    assert "TasksAreReadError" in ends["empty in a file"][1]
    assert ends["another model"][0] is None
    assert "TasksAreReadError" in ends["another model"][1]


@pytest.mark.slow
def test_errors_of_missing_arguments_name_no_functions(ends: dict[str, tuple[Any, str]]) -> None:
    status, said = ends["nothing to load"]
    assert status == 2
    assert "`pretrained=`" in said
    assert "transformers_policy" not in said


@pytest.mark.slow
def test_a_call_from_python_raises(ends: dict[str, tuple[Any, str]]) -> None:
    kind, said = ends["from Python"]
    assert kind == "AtomThinkError"
    assert "`serach`" in said
