"""Stands for `pip` while pages are followed: `pip install FOLDER`, without a network or a change of the environment.

A folder with a package is installed into the folder that SITE names. `.` without a package is a clone of this
repository, which is installed already. Anything else is an error: such lines belong in a `shell` fence.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

INSTALL = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target")


def main(command: str, *arguments: str) -> int:
    folders = [Path(word.partition("[")[0]) for word in arguments if not word.startswith("-")]
    packages = [folder for folder in folders if (folder / "pyproject.toml").is_file()]
    if command != "install" or [folder for folder in folders if folder not in packages and folder != Path(".")]:
        print(f"the tests cannot run `pip {' '.join((command, *arguments))}`", file=sys.stderr)
        return 1
    return max(
        [subprocess.run([*INSTALL, os.environ["SITE"], folder.resolve()]).returncode for folder in packages], default=0
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
