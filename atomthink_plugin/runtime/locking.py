"""Keeps two processes from writing one file of a journal."""

from __future__ import annotations

import json
import logging
import os
import platform
import time
from contextlib import suppress
from pathlib import Path as FilePath

from filelock import FileLock, Timeout

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.runtime.files import write_atomically

log = logging.getLogger(__name__)


class JournalLock:
    """The operating system's lock for one process's part of a journal.

    It ends with the process; with older versions of filelock, its forked children hold it too.

    Where the file system has no locks, filelock may use a lock file instead; one left by a killed process may have to
    be deleted by hand. Where that fails too, a warning says so and nothing is locked.

    Args:
        folder: The journal's folder.
        rank: Index of this process.

    Raises:
        AtomThinkError: Another process holds the lock; names it.
    """

    def __init__(self, folder: FilePath, rank: int) -> None:
        self._holder = folder / f"rank{rank}.holder"
        mine = {"pid": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        self._signature = json.dumps(mine).encode()
        # Not bound to a thread: it is released where the journal is closed, and taken again where that was deleted.
        self._lock = FileLock(folder / f"rank{rank}.lock", timeout=0, thread_local=False)
        try:
            self._lock.acquire()
            write_atomically(self._holder, [self._signature])
        except Timeout:
            raise AtomThinkError(
                f"the journal {folder} is being written by {self._other()}: wait for that run or stop it, or keep "
                "this one apart with `journal=FOLDER`"
            ) from None
        except (OSError, NotImplementedError) as error:
            log.warning("%s cannot be locked (%s): do not start the same run a second time beside it", folder, error)

    def release(self) -> None:
        """Lets other processes in."""
        with suppress(OSError):
            if self._holder.read_bytes() == self._signature:
                self._holder.unlink()
        self._lock.release()

    def _other(self) -> str:
        try:
            known = json.loads(self._holder.read_bytes())
            return f"process {known['pid']} on {known['host']} (since {known['since']})"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"
