"""Does what a page asks of its reader, from top to bottom: `python -m tests.docs.page PAGE SCRIPTS LANGUAGE...`.

Blocks of `bash` are run in one session that starts in the working directory, blocks of `python` in one namespace, and
fences with a title are written as files, all in the order of the page. It ends with status 1 at the first failure and
says at which line of the page.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from atomthink_plugin.model_adapters.tiny import WEIGHTS
from tests.docs.fences import Fence, fences

STANDINS = {"ORG/MODEL": str(WEIGHTS / "policy"), "ORG/PRM": str(WEIGHTS / "prm")}

SHORTER = {
    r"--limit \d+": "--limit 4",
    r"--sample \d+ --rollouts \d+": "--sample 1 --rollouts 2",
    r"train (prm|policy) recipe\.yaml": r"\g<0> --max_steps 8",
}
"""What a test types instead: the same commands on fewer questions and steps."""

SETTINGS = r"""
set -Eeuo pipefail
trap 'echo "${BASH_SOURCE[0]##*/}: line $LINENO: status $?: $BASH_COMMAND"' ERR
"""


class Session:
    """A bash that stays between the blocks of a page."""

    def __init__(self) -> None:
        self._folders, self._to = os.pipe()
        self._bash = subprocess.Popen(
            ["bash"], stdin=subprocess.PIPE, text=True, pass_fds=[self._to], start_new_session=True
        )
        os.close(self._to)
        self._ended = os.pidfd_open(self._bash.pid)
        self._send(SETTINGS)

    def run(self, script: Path) -> bool:
        """Runs a script and goes to the folder in which it ended. Returns whether all commands succeeded."""
        self._send(f"source '{script}' </dev/null\npwd >&{self._to}\n")
        ready = select.select([self._folders, self._ended], [], [])[0]
        folder = os.read(self._folders, 4096).decode().rstrip("\n") if self._folders in ready else ""
        if folder:
            os.chdir(folder)
        return bool(folder)

    def close(self) -> None:
        """Ends the session and what it has started in the background."""
        os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.wait()

    def _send(self, lines: str) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.write(lines)
        self._bash.stdin.flush()


class Page:
    """A reader of a page.

    Args:
        name: The page.
        scripts: A folder for the blocks; their names and lines are those of the page.
        languages: Which blocks are run.
    """

    def __init__(self, name: str, scripts: Path, languages: list[str]) -> None:
        self.name, self._scripts, self._languages = name, scripts, languages
        self._session = Session()
        sys.modules["__main__"] = self._namespace = ModuleType("__main__")

    def read(self) -> bool:
        """Does everything in order. Returns whether it succeeded."""
        try:
            return all(map(self._do, fences(Path(self.name).read_text(encoding="utf-8"))))
        finally:
            self._session.close()

    def _do(self, fence: Fence) -> bool:
        code = shortened(with_standins(fence.code))
        if fence.title is not None:
            file = Path(fence.title)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(code, encoding="utf-8")
            return True
        if fence.language not in self._languages:
            return True
        # As many empty lines as the page has before the block, so that errors name the lines of the page.
        script = self._scripts / f"line-{fence.line}" / Path(self.name).name
        script.parent.mkdir()
        script.write_text("\n" * (fence.line - 1) + code, encoding="utf-8")
        print(f"{self.name}, line {fence.line}:\n{code}", flush=True)
        return self._session.run(script) if fence.language == "bash" else self._execute(script)

    def _execute(self, script: Path) -> bool:
        try:
            exec(compile(script.read_text(encoding="utf-8"), str(script), "exec"), vars(self._namespace))
        except BaseException as error:
            if isinstance(error, SystemExit) and error.code in (None, 0):
                return True
            traceback.print_exc()
            return False
        return True


def with_standins(code: str) -> str:
    """Returns a block with the embedded policy and PRM in place of the reader's own."""
    for name, folder in STANDINS.items():
        code = code.replace(name, folder)
    return code


def shortened(code: str) -> str:
    """Returns a block that does the same with less."""
    for typed, shorter in SHORTER.items():
        code = re.sub(typed, shorter, code)
    return code


def main(name: str, scripts: str, *languages: str) -> Any:
    return 0 if Page(name, Path(scripts), list(languages)).read() else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
