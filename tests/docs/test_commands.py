"""Commands in all pages, not only those that the tests run, are ones that the programs understand."""

from __future__ import annotations

import json
import os
import re
import shutil
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest
from cyclopts import CycloptsError

from atomthink_plugin.cli import app
from tests import commands
from tests.docs.fences import PAGES, ROOT, arguments, command_lines, fences
from tests.docs.page import STANDINS, with_standins
from tests.plugins.plugin_packages import install

TYPED = {"bash", "console", "sh", "shell", ""}
"""Languages of the fences that a reader types."""

REFUSED = ["search=good_enough,threshold=1.5"]
"""Parts of commands that a page shows because they are refused."""

FOLDERS = {"atomthink_plugin", "benchmarks", "docs", "examples", "model_adapters", "tasks", "tests", "training"}

CHECKPOINT = re.compile(r"\bprm=(?!/)[^,]+")

INLINE = re.compile(r"(?<!`)`(atomthink [^`]*)`")


def all_commands(page: Path) -> Iterator[list[str]]:
    """Yields all commands of a page; those of tutorials that are run anyway are left out."""
    languages = TYPED - {"bash"} if page.parent == Path("docs/tutorials") else TYPED
    for fence in fences((ROOT / page).read_text(encoding="utf-8")):
        if fence.language in languages:
            yield from command_lines(with_standins(fence.code))


def typed(page: Path, *programs: str) -> Iterator[list[str]]:
    """Yields the arguments of the programs' runs in a page."""
    for command in all_commands(page):
        words = arguments(command, *programs)
        if words is not None and not any(part in word for part in REFUSED for word in words):
            yield words


def problem(words: list[str]) -> str | None:
    """Says what `atomthink` would refuse of a whole command."""
    try:
        app.parse_args(words, print_error=False, exit_on_error=False)
    except CycloptsError as error:
        return f"atomthink {' '.join(words)}: {error}"
    return None


def inline_problem(words: list[str]) -> str | None:
    """Says what is unknown of a command within a sentence, which may leave out arguments."""
    _, apps, others = app.parse_commands([word for word in words if word not in ("--help", "--version")])
    collection = apps[-1].assemble_argument_collection() if apps[-1].default_command else ()
    names = {name for one in collection for name in one.names}
    options = {word.partition("=")[0] for word in others if word.startswith("-")}
    unknown = options - names if "--[KEYWORD]" not in names else set()
    if not collection:
        unknown = {word for word in others if not (word.isupper() or word == "...")}
    return f"atomthink {' '.join(words)}: {sorted(unknown)}" if unknown else None


def missing(command: list[str]) -> list[str]:
    """Returns the modules, files and extras of this repository that a command names and that do not exist."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {extra for word in command if word.startswith(".[") for extra in word[2:-1].split(",")}
    files = [word for word in command if word.partition("/")[0] in FOLDERS and "/" in word]
    modules = [word for flag, word in pairwise(command) if flag == "-m" and word.partition(".")[0] in FOLDERS]
    lost = [file for file in files if not (ROOT / file).exists()]
    return [*sorted(named - set(extras)), *lost, *(name for name in modules if find_spec(name) is None)]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_commands_name_modules_files_and_extras_that_exist(page: Path) -> None:
    assert [name for command in all_commands(page) for name in missing(command)] == []


def test_what_is_missing_is_found() -> None:
    typed = "pip install '.[tran]'\npython -m benchmarks.held_in --json benchmarks/results/none.json"
    found = [name for command in command_lines(typed) for name in missing(command)]
    assert found == ["tran", "benchmarks/results/none.json", "benchmarks.held_in"]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_commands_of_atomthink_are_understood(page: Path) -> None:
    inline = INLINE.findall((ROOT / page).read_text(encoding="utf-8"))
    wrong = [problem(words) for words in typed(page, "atomthink", "atomthink_plugin.cli")]
    wrong += [inline_problem(command.split()[1:]) for command in inline]
    assert list(filter(None, wrong)) == []


@pytest.mark.parametrize("words", ["dmeo", "view out --owt x", "train prmm r.yaml", "prm evaluate"])
def test_wrong_commands_are_found(words: str) -> None:
    assert problem(words.split())
    assert inline_problem(words.split())


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What is wrong with commands of lmms-eval, by page; `MISTAKES` is a page of wrong commands."""
    lines: list[tuple[str, str, list[str]]] = [("MISTAKES", str(ROOT), words.split()) for words in MISTAKES]
    for number, page in enumerate(PAGES):
        folder = tmp_path_factory.mktemp(f"page{number}")
        shutil.copytree(ROOT / "examples" / "published", folder / "examples" / "published")
        for fence in fences((ROOT / page).read_text(encoding="utf-8")):
            if fence.title is not None:
                (folder / fence.title).parent.mkdir(parents=True, exist_ok=True)
                (folder / fence.title).write_text(with_standins(fence.code), encoding="utf-8")
        for words in typed(page, "lmms-eval", "lmms_eval"):
            here = [CHECKPOINT.sub(f"prm={STANDINS['ORG/PRM']}", word) for word in words]  # its configuration is read
            lines += [(str(page), str(folder), here)] if "--model" in words else []
    home = tmp_path_factory.mktemp("home")
    (home / "lines.json").write_text(json.dumps([line[1:] for line in lines]))
    example = (ROOT / "examples" / "search_plugin" / "atomthink_example.py").read_text(encoding="utf-8")
    env = commands.environment(home / "cache", install(home / "site", example=example))
    env["PYTHONPATH"] += os.pathsep + str(ROOT)
    done = commands.run("python", "-m", "tests.docs.check_commands", home / "lines.json", cwd=home, env=env)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = {"MISTAKES": [], **{str(page): [] for page in PAGES}}
    for (page_name, _, words), wrong in zip(lines, json.loads(done.stdout.splitlines()[-1]), strict=True):
        if wrong is not None:
            found[page_name].append(f"{' '.join(words)}: {wrong}")
    return found


MISTAKES = [
    "--model atomthink_tinny --tasks atomthink_demo",
    "--model atomthink_tiny --tasks atomthink_demoo",
    "--model atomthink_tiny --tasks atomthink_demo --model_args thinking=slow,search=beem",
    "--model atomthink_tiny --tasks atomthink_demo --model_args config=none.yaml",
    "--model atomthink_tiny --tasks atomthink_demo --model_args thinking=quick --gen_kwargs temprature=1",
    "--model atomthink_tiny --tasks atomthink_demo --log_simples",
]


@pytest.mark.slow
def test_wrong_commands_of_lmms_eval_are_found(checked: dict[str, list[str]]) -> None:
    assert len(checked["MISTAKES"]) == len(MISTAKES)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=str)
def test_commands_of_lmms_eval_have_known_models_tasks_and_arguments(checked: dict[str, list[str]], page: Path) -> None:
    assert checked[str(page)] == []
