"""The command `doctor`."""

from __future__ import annotations

import sys


def doctor() -> None:
    """Show what is installed and reachable, and what would fail.

    Prints versions, devices, caches, the model hub, the judge's key and plugins on one screen, and asks the embedded
    model one question. Keys and tokens are not shown. The exit status is 2 if something that every run needs is
    broken. With HF_HUB_OFFLINE=1 the model hub is not asked.

        atomthink doctor
    """
    print("loading torch and the embedded model ...", file=sys.stderr, flush=True)  # takes seconds
    from atomthink_plugin.doctor.run import run_doctor

    run_doctor()
