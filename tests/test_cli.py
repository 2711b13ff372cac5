"""The whole command line: its help, its examples, what it refuses, and how it ends."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cyclopts import App

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.cli import app, main
from atomthink_plugin.tasks.demo.questions import held_out

HEAVY = {"torch", "transformers", "lmms_eval", "datasets", "scipy", "numpy", "pydantic", "yaml"}
FLAG = re.compile(r"--[a-z][a-z0-9]*(-[a-z0-9]+)*")


def commands(within: App = app, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], App]]:
    """Yields every command by its words."""
    for name in within:
        inner = within[name]
        if name.startswith("-"):
            continue
        if inner.default_command is None:
            yield from commands(inner, (*words, name))
        else:
            yield (*words, name), inner


COMMANDS = dict(commands())


def examples(text: str) -> list[list[str]]:
    """Returns the words of all `atomthink` commands in indented or fenced blocks, without prompts and redirections."""
    lines = (line.strip().removeprefix("$ ") for line in text.replace("\\\n", " ").splitlines())
    typed = (part.partition(" > ")[0] for line in lines for part in line.split(" && ") if part.startswith("atomthink "))
    return [shlex.split(command, comments=True)[1:] for command in typed]


def parsed(words: list[str]) -> Callable[..., Any]:
    """Returns the function that a command line calls; nothing is run."""
    command, _, _ = app.parse_args(words, print_error=False, exit_on_error=False)
    return command


def test_there_are_all_commands() -> None:
    assert {words[0] for words in COMMANDS} >= {"demo", "submit", "view", "annotate", "label", "pairs"}
    assert {words[1] for words in COMMANDS if words[0] == "train"} == {"policy", "dpo", "prm", "tiny"}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_commands_help_has_an_example_of_it(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"atomthink {' '.join(words)}" in shown.partition("\n")[2]  # the first line is the usage
    assert "[default: ]" not in " ".join(shown.replace("│", " ").split())
    function = COMMANDS[words].default_command
    written = examples(function.__doc__ or "")
    assert [parsed(example) for example in written] == [function] * len(written)
    assert written


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_options_follow_one_grammar(words: tuple[str, ...]) -> None:
    names = [name for one in COMMANDS[words].assemble_argument_collection() for name in one.names]
    flags = {name for name in names if name.startswith("-") and name not in ("--model_args", "--[KEYWORD]")}
    assert not {flag for flag in flags if FLAG.fullmatch(flag) is None}
    assert not flags & {"--output", "--args", "--way"}
    assert ("--n" in flags) == (words == ("score",))  # several N, as of best-of-N; one number has a name of its own


def test_no_help_imports_anything_heavy() -> None:
    helps = [["--help"], [], *([*words, "--help"] for words in COMMANDS)]
    code = f"import sys\nfrom atomthink_plugin.cli import main\nfor words in {helps!r}: assert main(words) == 0\n"
    code += f"print('HEAVY', {HEAVY!r} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY set()"


def test_without_a_command_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert not [words[0] for words in COMMANDS if words[0] not in shown]
    places = [shown.index(group) for group in ("Try", "Evaluate", "Look at runs", "Make data", "Train ")]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("dmeo", "demo"),
        ("train polcy", "policy"),
        ("label q.jsonl --out o.jsonl --rolouts 2", "--rollouts"),
        ("label q.jsonl --out o.jsonl --rollouts 0", "--rollouts"),
        ("label q.jsonl --out o.jsonl --rollouts 2.5", "--rollouts 2.5"),
        ("label q.jsonl --out o.jsonl --method omga", "--method omega"),
        ("label q.jsonl", "--out"),
        ("train policy recipe.yaml out=policy", "out=policy"),
        ("demo --limit 0", "--limit"),
        ("demo --limit 201", "--limit 200"),
        ("demo --modes fast", "`thinking=fast` direct cot quick slow"),
        ("demo --modes slow:puct", "`search=puct` beam"),
    ],
)
def test_bad_input_is_one_line_that_names_it(typed: str, names: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(typed.split()) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("loading ")]
    assert line.startswith("atomthink: ")
    assert not [name for name in names.split() if name not in line], line


LOGS = """
import logging
from atomthink_plugin.cli import main
main(["--version"])
for name in ("numexpr.utils", "httpx", "atomthink_plugin.runtime"):
    logging.getLogger(name).info("information of %s", name)
    logging.getLogger(name).warning("warning of %s", name)
"""


def test_of_other_libraries_only_warnings_are_shown() -> None:
    done = subprocess.run([sys.executable, "-c", LOGS], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == [
        "warning of numexpr.utils",
        "warning of httpx",
        "information of atomthink_plugin.runtime",
        "warning of atomthink_plugin.runtime",
    ]


def test_lmms_evals_spelling_of_model_args_is_understood() -> None:
    for flag in ("--model-args", "--model_args"):
        _, bound, _ = app.parse_args(["label", "q", "--out", "o", flag, "a=1,b=two"], exit_on_error=False)
        assert bound.kwargs["model_args"] == "a=1,b=two"


def test_keys_of_a_recipe_are_options() -> None:
    _, bound, _ = app.parse_args(["train", "dpo", "r.yaml", "--learning_rate", "1e-5", "--lora_r=8"])
    assert bound.kwargs == {"learning_rate": "1e-5", "lora_r": "8"}


@pytest.mark.slow
def test_the_demo_answers_and_writes_its_rows_and_a_page_of_trees(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "rows.json"
    modes = ["direct", "quick", "slow:majority", "slow"]
    assert main(["demo", "--limit", "6", "--json", str(file), "--modes", *modes]) == 0
    rows = {row["mode"]: row for row in json.loads(file.read_text())}
    assert list(rows) == modes
    assert all(len(row["right"]) == 6 and row["failed"] == 0 for row in rows.values())
    assert rows["direct"]["tokens"] < rows["quick"]["tokens"] < rows["slow"]["tokens"]
    assert rows["slow"]["prm_calls"] > 0 == rows["slow:majority"]["prm_calls"]
    assert rows["slow"]["speed"]["sampled"] == 6 * rows["slow"]["tokens"]
    assert rows["slow"]["speed"]["models"].keys() == {"policy", "prm"}
    printed = capsys.readouterr().out
    assert f"{rows['slow']['accuracy']:.1%}" in printed
    (example,) = (number for number in range(6) if held_out(6)[number].text in " ".join(printed.split()))
    assert rows["slow"]["right"][example] is any(rows["slow"]["right"])
    assert "lmms-eval --model" in printed.splitlines()[-1]  # what to type next
    page = tmp_path / "cache" / "atomthink" / "demo.html"
    assert str(page) in printed
    assert f"{sum(rows['slow']['right'])} of 6" in page.read_text()
    assert not list(tmp_path.glob("cache/**/*.jsonl"))  # the trees were kept for the page only


def interrupted_demo(folder: Path, at: str, times: int) -> tuple[int, str]:
    """Sends Ctrl-C to the demo after `times` lines with `at`; returns its exit status and what it printed."""
    command = [sys.executable, "-m", "atomthink_plugin.cli", "demo", "--limit", "16", "--modes", "quick", "slow"]
    demo = subprocess.Popen(
        [*command, "--json", "rows.json"],
        cwd=folder,
        env={**os.environ, "XDG_CACHE_HOME": str(folder), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell's background jobs ignore it, and so do their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert demo.stdout is not None
    lines = []
    for line in demo.stdout:
        lines.append(line)
        if sum(at in one for one in lines) == times:
            demo.send_signal(signal.SIGINT)
            break
    for line in demo.stdout:
        lines.append(line)
        if line.startswith("Exception ignored"):  # Python drops an interrupt in a weak reference's callback
            demo.kill()
            demo.wait()
            return interrupted_demo(folder, at, times)
    return demo.wait(), "".join(lines)


@pytest.mark.slow
def test_an_interrupt_of_the_demo_leaves_what_is_finished(tmp_path: Path) -> None:
    status, printed = interrupted_demo(tmp_path, "100%|", 2)  # weights are loaded: the second mode's policy
    assert status == 130, printed
    assert "Traceback" not in printed
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert (row["mode"], len(row["right"])) == ("quick", 16)
    assert f"{row['accuracy']:.1%}" in printed
    assert "1 of 2" in printed


@pytest.mark.slow
def test_an_interrupt_during_the_imports_is_one_line(tmp_path: Path) -> None:
    status, printed = interrupted_demo(tmp_path, "", 1)
    assert status == 130, printed
    assert len(printed.splitlines()) == 2  # what it was about to load, and that it was interrupted


class LimitReachedError(AtomThinkError):
    exit_status = 3


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), 130), (AtomThinkError("no run"), 2), (LimitReachedError("done"), 3)]
)
def test_a_command_that_ends_early_has_a_status_and_a_line(
    error: BaseException,
    status: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("atomthink_plugin.tasks.step_report.write_step_report", fail)
    assert main(["steps", str(tmp_path)]) == status
    assert len(capsys.readouterr().err.splitlines()) == 1
