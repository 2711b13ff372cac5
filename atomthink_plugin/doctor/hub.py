"""Whether the model hub can be reached."""

from __future__ import annotations

import threading
import time
from typing import Final

from atomthink_plugin.doctor.findings import Finding, Problem

TIMEOUT: Final = 3.0
"""Seconds to wait for the hub."""

_ADVICE: Final = "only local folders and cached checkpoints work"


class HubRequest:
    """A request to the hub that runs while the other probes run.

    It runs in a daemon thread, because the look-up of a name can take longer than any timeout.
    """

    def __init__(self) -> None:
        self._answer: str | None = None
        self._error = f"no answer within {TIMEOUT:.0f} s"
        self._end = time.monotonic() + TIMEOUT + 1
        self._thread = threading.Thread(target=self._ask, name="atomthink-doctor-hub", daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        try:
            from huggingface_hub import constants, get_session

            if constants.HF_HUB_OFFLINE:
                self._error = "HF_HUB_OFFLINE is set"
                return
            reply = get_session().head(constants.ENDPOINT, timeout=TIMEOUT)
        except Exception as error:
            self._error = f"{type(error).__name__}: {error}".splitlines()[0]
            return
        if reply.status_code < 400:
            self._answer = "reachable"
        else:
            self._error = f"HTTP {reply.status_code}"

    def finding(self) -> Finding:
        """Waits for the answer, until the time is over, and returns what was found. The token is never shown."""
        from huggingface_hub import constants, get_token

        self._thread.join(max(0.0, self._end - time.monotonic()))
        token = "with a token" if get_token() else "without a token"
        if self._answer is not None:
            return Finding([("model hub", f"{constants.ENDPOINT} {self._answer}, {token}")])
        return Finding(
            [("model hub", f"{constants.ENDPOINT} not used ({self._error}), {token}")],
            [Problem(f"The model hub is not used: {_ADVICE}.")],
        )
