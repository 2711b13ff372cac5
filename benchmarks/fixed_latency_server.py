"""A stand-in for a model server: it computes nothing and takes a fixed time per token.

    python -m benchmarks.fixed_latency_server 8000 --seconds-per-token 0.05 --slots 16

It answers chat completions with short made-up chains, so that a client can be measured without a model. `scale_out`
starts several of them.
"""

from __future__ import annotations

import argparse
import time
from threading import Semaphore
from typing import Any

from tests.openai_server import ChatServer, run_forever


class FixedLatencyServer(ChatServer):
    """Takes the same time for each token.

    Args:
        seconds_per_token: That time.
        slots: Requests that are answered at the same time; others wait.
    """

    def __init__(self, seconds_per_token: float, slots: int) -> None:
        super().__init__()
        self._seconds_per_token = seconds_per_token
        self._slots = Semaphore(slots)

    def reply(self, body: dict[str, Any]) -> dict[str, Any]:
        """Returns the reply after as long as its longest sample takes."""
        with self._slots:
            reply = super().reply(body)
            longest = max(len(choice["logprobs"]["content"]) for choice in reply["choices"])
            time.sleep(self._seconds_per_token * longest)
        self.asked.clear()  # a long run would fill the memory with images
        return reply


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("--seconds-per-token", type=float, default=0.05)
    parser.add_argument("--slots", type=int, default=16)
    options = parser.parse_args()
    run_forever(FixedLatencyServer(options.seconds_per_token, options.slots), options.port)


if __name__ == "__main__":
    main()
