"""A lock that keeps two processes from writing the same file."""

from __future__ import annotations

import json
import logging
import os
import platform
import time
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.files import write_atomically

log = logging.getLogger(__name__)


class WriterLock:
    """Locks a file for one writing process, through `NAME.lock` in the same folder.

    The operating system releases the lock when the process ends. A forked child does not release it. `NAME.holder`
    says which process holds the lock. On a file system without locks a warning is logged and nothing is locked.

    Args:
        file: The file to lock.
        argument: What the user chose the file with, for the error.

    Raises:
        AtomThinkError: Another process holds the lock. The error names the process and the argument.
    """

    def __init__(self, file: Path, argument: str) -> None:
        self._holder = file.with_suffix(".holder")
        self._pid = os.getpid()
        mine = {"pid": self._pid, "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        self._signature = json.dumps(mine).encode()
        # Not bound to a thread: logs are closed, and locked again after they were deleted, by other threads.
        self._lock = FileLock(file.with_suffix(".lock"), timeout=0, thread_local=False)
        try:
            self._lock.acquire()
            write_atomically(self._holder, [self._signature])
        except Timeout:
            raise AtomThinkError(
                f"{file} is being written by {self._other()}. Wait for that run, stop it, or choose another place "
                f"with {argument}"
            ) from None
        except (OSError, NotImplementedError) as error:
            log.warning("%s cannot be locked (%s). Do not start the same run twice at the same time", file, error)

    def release(self) -> None:
        """Releases the lock, unless this process inherited it by a fork."""
        if os.getpid() != self._pid:
            return
        with suppress(OSError):
            if self._holder.read_bytes() == self._signature:
                self._holder.unlink()
        self._lock.release()

    def _other(self) -> str:
        try:
            holder = json.loads(self._holder.read_bytes())
            return f"process {holder['pid']} on {holder['host']} (since {holder['since']})"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"
