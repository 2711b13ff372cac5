"""`atomthink doctor`: one screen that names what is broken, without a secret, whatever is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.doctor.findings import Finding, Problem, examine
from atomthink_plugin.doctor.run import show
from atomthink_plugin.model_adapters.register import CLASSES
from atomthink_plugin.version import __version__
from tests.plugins.plugin_packages import install

KEY, TOKEN = "sk-doctor-4fK82hQz71", "hf_doctorTokenX93kQ2"

PLUGIN = """
from atomthink_plugin.api import SearchKind
from atomthink_plugin.plugins.hookspecs import hookimpl
def usable(words: int = 1): ...
@hookimpl
def atomthink_searches():
    return {"good": SearchKind(usable, scored=False), "bare": usable}
"""

RUN = """
import shutil, sys
# The disk of the machine that runs the tests may be full, and each note about it takes lines.
shutil.disk_usage = lambda path, usage=shutil.disk_usage: usage(path)._replace(free=10**12)
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == sys.argv[1]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from atomthink_plugin.cli import main
sys.exit(main(["doctor"]))
"""


def doctor(folder: Path, missing: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the command as on a terminal of 80 columns, without one package."""
    places = {"HF_HOME": str(folder / "hf"), "XDG_CACHE_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    terminal = {"FORCE_COLOR": "1", "COLUMNS": "80", "HOME": str(folder)}
    kept = {name: value for name, value in os.environ.items() if name not in ("API_TYPE", "HF_DATASETS_CACHE")}
    environment = {**kept, **places, **terminal, **environment}
    command = [sys.executable, "-c", RUN, missing]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=folder)
    done.stdout = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    return done


@pytest.mark.slow
def test_a_real_run_fits_a_screen_and_names_what_was_found_without_a_secret(tmp_path: Path) -> None:
    broken = f"raise RuntimeError('refused with {KEY}')"
    plugins = install(tmp_path / "site", odd=PLUGIN, broken=broken)
    done = doctor(tmp_path, **plugins, OPENAI_API_KEY=KEY, HF_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) <= 40, done.stdout
    assert max(map(cell_len, lines)) <= 80
    text = " ".join(done.stdout.split())
    models = f"{len(CLASSES)} models"
    for shown in (__version__, models, "OPENAI_API_KEY is set", "HF_HUB_OFFLINE", "with a token", "searches good"):
        assert shown in text, done.stdout
    for problem in ("'bare'", "RuntimeError"):
        assert text.index("What would fail") < text.index(problem)
    for secret in (KEY, TOKEN, KEY[:12], TOKEN[:12]):
        assert secret not in done.stdout + done.stderr
    assert not list(tmp_path.rglob("*.jsonl"))  # the question to the embedded model is in no journal


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["torch", "pydantic", "loguru"])
def test_a_missing_package_breaks_the_status_and_no_other_probe(missing: str, tmp_path: Path) -> None:
    done = doctor(tmp_path, missing)
    assert done.returncode == 2, done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    text = " ".join(done.stdout.split())
    assert f"No module named '{missing}" in text
    for shown in (f"atomthink-plugin {__version__}", "HF hub cache", "model hub", " error "):
        assert shown in text, done.stdout


def test_a_probe_that_raises_or_exits_is_a_finding() -> None:
    for error in (KeyError("gone"), SystemExit(3)):

        def probe(error: BaseException = error) -> Finding:
            raise error

        finding = examine("thing", probe)
        assert finding.facts[0][0] == "thing"
        assert type(error).__name__ in finding.facts[0][1]
        assert finding.problems


def test_only_a_broken_problem_ends_with_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    note, broken = Problem("a note"), Problem("a fault", broken=True)
    show([Finding(problems=[note])])
    with pytest.raises(AtomThinkError):
        show([Finding([("where", "~/x")], [note]), Finding(problems=[broken])])
    shown = capsys.readouterr().out
    assert shown.rindex("a fault") < shown.rindex("a note")
