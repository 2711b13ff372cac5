"""What a plugin's `sys.exit` does: it ends no program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from atomthink_plugin.api import AtomThinkError


@contextmanager
def no_exit(what: str) -> Iterator[None]:
    """Turns `sys.exit` into an error like any other: in an event loop's task it would end the whole run.

    Args:
        what: Whose code is run, for the message.

    Raises:
        AtomThinkError: It called `sys.exit`.
    """
    try:
        yield
    except SystemExit as error:
        raise AtomThinkError(f"{what} called sys.exit({error.code!r}): have it raise an exception") from error
