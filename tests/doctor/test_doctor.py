"""`atomthink doctor`: one screen that names what is broken, without a secret, whatever is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants
from rich.cells import cell_len

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.doctor import hardware, hub, storage, versions
from atomthink_plugin.doctor.findings import Finding, Problem, examine
from atomthink_plugin.doctor.hub import HubRequest
from atomthink_plugin.doctor.offers import models
from atomthink_plugin.doctor.run import show
from atomthink_plugin.tasks import doctor_probes
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
import sys
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
    for shown in (__version__, "9 models", "OPENAI_API_KEY is set", "HF_HUB_OFFLINE", "with a token", "searches good"):
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


def scripted_versions(monkeypatch: pytest.MonkeyPatch, **others: str | None) -> list[Problem]:
    """The problems where some packages have other versions, or are missing."""
    real = versions.version

    def version(name: str) -> str:
        found = others.get(name.replace("-", "_"), real(name) if name.replace("-", "_") not in others else None)
        if found is None:
            raise versions.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(versions, "version", version)
    return list(versions.versions().problems)


def naming(problems: list[Problem], *words: str) -> list[Problem]:
    return [one for one in problems if all(word in one.text for word in words)]


def test_a_required_package_that_is_missing_or_out_of_range_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    problems = scripted_versions(monkeypatch, filelock="4.3.0", transformers="5.15.2", pluggy=None)
    for words in (("filelock", "4.3.0", "<4.3"), ("transformers", "5.15.2", ">=5.16"), ("pluggy", "pip install")):
        (found,) = naming(problems, *words)
        assert found.broken
    assert len([one for one in problems if one.broken]) == 3


def test_a_missing_extra_names_its_commands_and_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    problems = scripted_versions(monkeypatch, vllm=None, trl=None, altair="4.0.0")
    for words in (("atomthink_vllm", "[vllm]"), ("atomthink train", "trl", "[train]"), ("scale", "altair 4.0.0")):
        (found,) = naming(problems, *words)
        assert not found.broken
    assert not [one for one in problems if one.broken]


@pytest.mark.parametrize(("found", "named"), [("5.24.9", False), ("5.25.0", True), ("6.0.0", True)])
def test_a_package_newer_than_tested_is_a_note(found: str, named: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = naming(scripted_versions(monkeypatch, transformers=found), "transformers", found)
    assert [one.broken for one in problems] == [False] * named


def test_the_table_has_versions_and_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted_versions(monkeypatch, vllm="0.33.0", transformers="5.20.0")
    table = versions.versions().table
    assert table is not None
    rows = {name: rest for name, *rest in table.cells}
    assert rows["vllm"] == ["0.33.0", ">=0.20,<0.34", "0.33"]
    assert rows["transformers"][:2] == ["5.20.0", ">=5.16"]
    assert rows["Python"][1] == ">=3.11"


def test_a_python_that_is_too_old_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions.sys, "version_info", (3, 10, 4))
    (found,) = naming(list(versions.versions().problems), "Python 3.10.4", ">=3.11")
    assert found.broken


def test_journals_are_counted_and_a_cache_that_cannot_be_written_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("hf-beam-1", "hf-beam-2"):
        (tmp_path / "atomthink" / "journal" / name).mkdir(parents=True)
        (tmp_path / "atomthink" / "journal" / name / "settings.json").write_text("{}")
    ((_, text),) = storage.journals().facts
    assert "2 runs" in text
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "cache"))  # the superuser may write any folder
    full = storage.shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: full)
    finding = storage.journals()
    (problem,) = finding.problems  # where nothing can be written, its space is no further problem
    assert "XDG_CACHE_HOME" in problem.text
    assert problem.broken
    assert "not writable" in finding.facts[0][1]


def test_the_home_folder_is_a_tilde_and_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "sets"))
    (tmp_path / "sets" / "a___b").mkdir(parents=True)
    full = storage.shutil.disk_usage(tmp_path)._replace(free=2 * 10**9)
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: full)
    finding = storage.datasets_cache()
    assert finding.facts[0][1].startswith("~/sets: 1 ")
    (problem,) = finding.problems
    assert "2.0 GB" in problem.text
    assert not problem.broken
    assert not list((tmp_path / "sets").glob("*.tmp")) + list((tmp_path / "sets").glob("tmp*"))


class Hub(BaseHTTPRequestHandler):
    """Answers with the status that the path names."""

    waits = threading.Event()

    def do_HEAD(self) -> None:
        status = int(self.path.strip("/") or 0)
        if not status:
            self.waits.wait(30)
            return
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    Hub.waits.set()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "named"), [("/200", None), ("/503", "HTTP 503"), ("/", "Timeout"), ("offline", "HF_HUB_OFFLINE")]
)
def test_the_hub_is_asked_once_with_a_timeout(
    path: str, named: str | None, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "TIMEOUT", 1.0)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", path == "offline")
    monkeypatch.setattr(constants, "ENDPOINT", address + path)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    from huggingface_hub.utils import _http

    monkeypatch.setattr(_http, "_GLOBAL_CLIENT", None)
    finding = HubRequest().finding()
    ((_, text),) = finding.facts
    assert "with a token" in text
    assert TOKEN not in text
    assert len(finding.problems) == (named is not None)
    assert named is None or named in text


def test_the_judges_key_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TYPE", "azure")
    monkeypatch.delenv("AZURE_API_KEY", raising=False)
    (problem,) = doctor_probes.judge().problems
    assert "AZURE_API_KEY" in problem.text
    monkeypatch.setenv("AZURE_API_KEY", KEY)
    finding = doctor_probes.judge()
    assert not finding.problems
    assert "AZURE_API_KEY" in finding.facts[0][1]
    assert KEY not in finding.facts[0][1]


def test_tasks_are_counted_as_the_variables_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TYPE", "openai")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    replaced = len(list(doctor_probes.BUILTIN.glob("*.yaml")))
    assert f" {replaced} of " in doctor_probes.tasks().facts[0][1]
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert " 0 of " in doctor_probes.tasks().facts[0][1]
    monkeypatch.setenv("ATOMTHINK_NO_TASKS", "1")
    assert "ATOMTHINK_NO_TASKS" in doctor_probes.tasks().facts[0][1]


def test_an_entry_point_that_breaks_lmms_eval_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "other-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[lmms_eval.models]\nextra = no_such_module:models\n")
    assert not models().problems
    monkeypatch.syspath_prepend(tmp_path)
    (problem,) = models().problems
    assert "no_such_module" in problem.text


def test_a_low_limit_of_open_files_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 4096))
    (problem,) = hardware.open_files().problems
    assert "256" in problem.text
    assert "ulimit" in problem.text
    monkeypatch.setattr(resource, "getrlimit", lambda _: (65536, 65536))
    assert hardware.open_files() == Finding()


def test_gpus_that_torch_does_not_find_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(hardware.shutil, "which", lambda _: None)
    assert not naming(list(hardware.devices().problems), torch.__version__)
    monkeypatch.setattr(hardware.shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    assert naming(list(hardware.devices().problems), torch.__version__)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    problems = list(hardware.devices().problems)
    assert naming(problems, "CUDA_VISIBLE_DEVICES=''")
    assert not naming(problems, torch.__version__)


def test_gpus_are_grouped_with_their_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    free = [12 * 2**30, 20 * 2**30]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (free[index], 24 * 2**30))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Card")
    finding = hardware.devices()
    assert finding.facts[0] == ("device", "2 x Card, 24 GiB each, free: 12, 20")
    assert [problem.broken for problem in finding.problems] == [False]
    free[0] = 64 * 2**30
    assert not hardware.devices().problems
