"""Commands that a warm process answers are no different from those that start a process of their own."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import commands

pytestmark = pytest.mark.slow

WHAT_IS_SEEN = """
import json, os, sys
import transformers
from huggingface_hub import constants
print(json.dumps({"argv": sys.argv[1:], "cwd": os.getcwd(), "own": os.environ.get("OWN"), "hub": constants.HF_HOME,
                  "stdin": sys.stdin.read(), "path": sys.path[0] in ("", os.getcwd()), "pid": os.getpid(),
                  "imported": "lmms_eval.tasks" in sys.modules}))
print("error", file=sys.stderr)
"""


def seen(tmp_path: Path, **extra: str) -> dict[str, object]:
    program = commands.warm_process().folder / "bin" / "python"
    done = subprocess.run(
        [program, "-c", WHAT_IS_SEEN, "one", "two words"],
        cwd=tmp_path,
        env=commands.environment(tmp_path / "cache", extra),
        input="typed",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.endswith("error\n")
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_a_fork_sees_what_a_process_of_its_own_would_see(tmp_path: Path) -> None:
    found = seen(tmp_path, OWN="value")
    given = {"argv": ["one", "two words"], "cwd": str(tmp_path), "own": "value", "stdin": "typed", "path": True}
    assert {name: found[name] for name in given} == given
    assert found["imported"]
    assert found["pid"] != seen(tmp_path)["pid"]


def test_what_is_read_on_import_starts_a_process_of_its_own(tmp_path: Path) -> None:
    found = seen(tmp_path, HF_HOME=str(tmp_path / "hub"))
    assert found["hub"] == str(tmp_path / "hub")
    assert not found["imported"]


def test_commands_of_a_fork_are_forks_too(tmp_path: Path) -> None:
    code = f"import subprocess; subprocess.run(['python', '-c', {WHAT_IS_SEEN!r}], stdin=subprocess.DEVNULL)"
    done = commands.run("python", "-c", code, cwd=tmp_path, env=commands.environment(tmp_path / "cache"))
    assert json.loads(done.stdout)["imported"]


@pytest.mark.parametrize(
    ("code", "status"),
    [("raise SystemExit(3)", 3), ("1 / 0", 1), ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL)],
)
def test_the_status_is_that_of_the_command(code: str, status: int, tmp_path: Path) -> None:
    done = commands.run("python", "-c", code, cwd=tmp_path, env=commands.environment(tmp_path / "cache"))
    assert done.returncode == status, done.stderr


WAITS = """
import time
try:
    print("ready", flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    raise SystemExit(5)
"""


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 5), (signal.SIGTERM, -signal.SIGTERM)])
def test_signals_reach_the_command(sent: signal.Signals, status: int, tmp_path: Path) -> None:
    program = commands.warm_process().folder / "bin" / "python"
    env = commands.environment(tmp_path / "cache")
    with subprocess.Popen([program, "-c", WAITS], env=env, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.readline()
        client.send_signal(sent)
        assert client.wait() == status


def test_a_command_ends_when_its_client_is_killed(tmp_path: Path) -> None:
    program = commands.warm_process().folder / "bin" / "python"
    env = commands.environment(tmp_path / "cache")
    with subprocess.Popen([program, "-c", WAITS], env=env, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.readline()
        client.kill()
        assert client.stdout.read() == b""  # its last writer, the command, is gone


def test_the_warm_process_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    for name in ("client.py", "server.py"):
        text = (commands.FOLDER / name).read_text()
        (tmp_path / name).write_text(re.sub(r"(?s)MODULES = \(.*?\)", "MODULES = ()", text))  # none to import
    code = "from tests import commands\nfrom tests.commands import run, warm_process\nfrom pathlib import Path\n"
    code += f"import os\ncommands.FOLDER = Path({str(tmp_path)!r})\n"
    code += "run('python', '-c', '', cwd=Path('.'), env=dict(os.environ)); print(warm_process().folder)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=commands.FOLDER.parents[1], capture_output=True, text=True, check=True
    )
    # The folder is removed at the end; standard error is closed then, for which `run` has waited.
    assert not Path(done.stdout.strip()).exists()
