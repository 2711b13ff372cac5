"""Errors in the code of plugins: formats, units, searches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.exits import no_exit


@contextmanager
def named(what: str) -> Iterator[None]:
    """Names the code that raised an error.

    Args:
        what: Whose code is called, for the message.

    Raises:
        AtomThinkError: The code raised an error of another kind, or called `sys.exit`.
    """
    try:
        with no_exit(what):
            yield
    except AtomThinkError:
        raise
    except Exception as error:
        raise AtomThinkError(f"{what} failed: {type(error).__name__}: {error}") from error
