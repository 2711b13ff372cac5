"""Runs pages of the documentation as their readers would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests import commands
from tests.docs.fences import ROOT

PIP = Path(__file__).with_name("pip.py")


def follow(page: Path | str, home: Path, *languages: str) -> subprocess.CompletedProcess[str]:
    """Follows a page in the folder `home/work`, which may hold files already. What is printed is in the order it came.

    Args:
        page: A page of the repository, or any other.
        home: A folder for all that the page leaves, caches and installed packages as well.
        languages: The languages of the blocks that are run.
    """
    for name in ("bin", "scripts", "site", "work"):
        (home / name).mkdir(exist_ok=True)
    pip = home / "bin" / "pip"
    pip.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{PIP}" "$@"\n')
    pip.chmod(0o755)
    env = commands.environment(home / "cache", {"SITE": str(home / "site")})
    env["PATH"] = os.pathsep.join((str(home / "bin"), env["PATH"]))
    env["PYTHONPATH"] = os.pathsep.join((str(home / "site"), str(ROOT)))
    typed = ("python", "-m", "tests.docs.page", ROOT / page, home / "scripts", *languages)
    return commands.run(*typed, cwd=home / "work", env=env, stderr=subprocess.STDOUT)
