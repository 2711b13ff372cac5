"""Stands for a command on PATH: passes all it was given to the warm process, and ends as the command ends.

It is run by `python -IS` and imports little, so that it starts in milliseconds.
"""

import json
import os
import signal
import socket
import sys

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(address: str, real: str) -> None:
    """Ends with the status of the command.

    Args:
        address: The socket of the warm process.
        real: The installed command. It is run instead if the warm process cannot stand for it.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.connect(address)
        signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)  # until the command is there to get them
        request = json.dumps([[real, *sys.argv[1:]], os.getcwd(), dict(os.environ)]).encode()
        socket.send_fds(server, [len(request).to_bytes(4, "big")], [0, 1, 2])
        server.sendall(request)
        for number in FORWARDED:
            signal.signal(number, lambda number, _: server.sendall(bytes([number])))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
        status = server.recv(64).decode()  # comes when the command has ended
    for number in FORWARDED:
        signal.signal(number, signal.SIG_DFL)
    if status == "cold":
        os.execv(real, [real, *sys.argv[1:]])
    if int(status) < 0:
        os.kill(os.getpid(), -int(status))
    sys.exit(int(status))
