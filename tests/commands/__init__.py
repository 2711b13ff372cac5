"""Commands as users type them, answered by a warm process that forks for each: `run` and `environment`.

Importing torch, transformers and lmms-eval takes seconds of CPU per process, and the tests run dozens of commands.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

COMMANDS: Final = ("atomthink", "lmms-eval", "pytest", "python")

FOLDER: Final = Path(__file__).parent
FIXED: Final = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

NOT_INHERITED: Final = ("ATOMTHINK_", "PYTEST_", "OPENAI_", "AZURE_", "API_TYPE", "MODEL_VERSION")
"""What the developer's own environment and the running tests may set, by its beginnings."""


class WarmProcess:
    """The warm process of this test process; it ends with it.

    Attributes:
        folder: `bin/` with the commands, and the caches of the libraries.
        settings: Variables that libraries read when they are imported. A command with other values of them starts a
            process of its own.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="atomthink-"))
        self.settings = {**FIXED, "HF_HOME": str(self.folder / "hf"), "HF_DATASETS_CACHE": str(self.folder / "data")}
        address = self.folder / "socket"
        self._write_commands(str(address))
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(address))
            listener.listen(64)
            self._process = subprocess.Popen(
                [sys.executable, "-P", FOLDER / "server.py", self.folder, str(listener.fileno())],
                env={**os.environ, **self.settings},
                stdin=subprocess.PIPE,  # closed when this process ends, which ends the warm process
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )

    def _write_commands(self, address: str) -> None:
        client = (FOLDER / "client.py").read_text()
        (self.folder / "bin").mkdir()
        for name in COMMANDS:
            script = self.folder / "bin" / name
            real = str(Path(sys.executable).with_name(name))
            script.write_text(f"#!{sys.executable} -IS\n{client}\n\nmain({address!r}, {real!r})\n")
            script.chmod(0o755)


warm_process = cache(WarmProcess)


def environment(cache: Path, extra: Mapping[str, str] = {}) -> dict[str, str]:
    """Returns an environment that finds these commands first; the user's cache is the given folder."""
    warm = warm_process()
    path = os.pathsep.join((str(warm.folder / "bin"), os.environ["PATH"]))
    own = {"XDG_CACHE_HOME": str(cache), "LMMS_EVAL_DATASETS_CACHE": "", "PATH": path}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
    return {**inherited, **warm.settings, **own, **extra}


def run(
    *typed: str | Path, cwd: Path, env: Mapping[str, str], stderr: int = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end, whatever its status."""
    command = [warm_process().folder / "bin" / typed[0], *typed[1:]]
    return subprocess.run(
        command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=stderr, text=True, check=False, timeout=3600
    )
