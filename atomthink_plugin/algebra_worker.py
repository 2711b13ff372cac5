"""A process that compares expressions: sympy may hang, and cannot be interrupted in a thread.

It is started by the first comparison, is replaced when a comparison takes too long, and ends with the process that
started it, however that ends. CPU time is counted, so that a busy machine changes no verdict.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
from threading import Lock
from typing import Final

from atomthink_plugin.api import AtomThinkError

CPU_SECONDS: Final = 1.0
"""CPU time that one comparison may take; expressions that take longer are not the same."""

PATIENCE: Final = 120.0
"""Seconds after which a process that does not answer is replaced: it was stopped, or the machine is far too busy."""

_CODE: Final = """import json, sys
sys.path[:] = json.loads(sys.argv[1])
from atomthink_plugin.algebra_process import serve
serve()
"""
READY: Final = b"ready"

_Running = tuple[subprocess.Popen[bytes], socket.socket]


class WorkerLostError(AtomThinkError):
    """Two expressions could not be compared, for a reason that is not theirs."""


class AlgebraWorker:
    """Compares expressions in a process of its own. Works in every thread and in forked processes."""

    def __init__(self) -> None:
        self._running: _Running | None = None
        self._lock = Lock()
        os.register_at_fork(after_in_child=self._forget)
        atexit.register(self.stop)

    @property
    def pid(self) -> int | None:
        """The process, None before the first comparison and after one that took too long."""
        return self._running[0].pid if self._running else None

    def same(self, first: str, second: str) -> bool:
        """Returns whether two LaTeX expressions are the same; False if that takes longer than `CPU_SECONDS`.

        Raises:
            WorkerLostError: Something else than its time ended the process, twice.
            AtomThinkError: The process cannot be started.
        """
        request = json.dumps([first, second]).encode() + b"\n"
        with self._lock:
            for last in (False, True):
                try:
                    verdict = self._verdict(request)
                except AtomThinkError:  # it may have been killed while it started
                    if last:
                        raise
                    continue
                if verdict is not None:
                    return verdict
        raise WorkerLostError("the process that compares formulas ended twice: look whether memory is left")

    def _verdict(self, request: bytes) -> bool | None:
        """Returns the answer to a request, None if something else than its time ended the process."""
        process, connection = self._running or self._started()
        try:
            connection.sendall(request)
            if reply := connection.recv(1):
                return reply == b"1"
        except TimeoutError:  # it was stopped, or the machine is overloaded: no verdict on the expressions
            self.stop()
            return None
        except OSError:
            pass  # the process has ended
        except BaseException:
            self.stop()  # its late reply would be taken for the next request's
            raise
        status = process.wait()
        self.stop()
        return False if status == -signal.SIGPROF else None

    def _started(self) -> _Running:
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE)
        try:
            with theirs:
                process = subprocess.Popen(
                    [sys.executable, "-P", "-c", _CODE, json.dumps([str(folder) for folder in sys.path])],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={**os.environ, "PYTHONHASHSEED": "0"},  # sympy's order, and so its time, depends on hashes
                    start_new_session=True,  # Ctrl-C is for the process that asks
                )
            self._running = process, ours
            reply = ours.recv(1000)
        except OSError as error:
            reply = repr(error).encode()
        except BaseException:
            self.stop()
            raise
        if self._running is None or reply != READY:
            self.stop()
            ours.close()
            raise AtomThinkError(
                f"the process that compares formulas cannot be started: {reply.decode(errors='replace') or 'it ended'}."
                " Look whether `python -c 'import math_verify'` works and whether memory and processes are left"
            )
        return self._running

    def stop(self) -> None:
        """Ends the process; the next comparison starts another."""
        if self._running is not None:
            process, connection = self._running
            connection.close()
            process.kill()
            process.wait()
        self._running = None

    def _forget(self) -> None:
        """Leaves the process to the parent of a forked one."""
        self._lock = Lock()
        if self._running is not None:
            process, connection = self._running
            connection.close()
            process.returncode = 0  # a sister, not a child: nothing to wait for
        self._running = None
