"""What runs in the process that `algebra_worker` starts: it compares one pair of expressions after the other."""

from __future__ import annotations

import json
import os
import signal
import socket

from atomthink_plugin.algebra_worker import CPU_SECONDS, READY


def serve() -> None:
    """Answers the requests on standard input, a socket, until it is closed."""
    connection = socket.socket(fileno=os.dup(0))
    try:
        from atomthink_plugin.algebra import same

        same("x+1=2", "x^2=1")  # loads what sympy loads late, which counts for no comparison
    except Exception as error:
        connection.sendall(repr(error).encode()[:1000])
        return
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, in the midst of sympy or of one long power
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})
    connection.sendall(READY)
    with connection.makefile("rb") as requests:
        for request in requests:
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            verdict = same(*json.loads(request))
            signal.setitimer(signal.ITIMER_PROF, 0)
            connection.sendall(b"1" if verdict else b"0")
