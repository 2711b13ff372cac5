"""What a plugin's `sys.exit` does: it ends no program."""

from __future__ import annotations

from types import TracebackType

from atomthink_plugin.api import AtomThinkError


class no_exit:  # noqa: N801
    """Turns `sys.exit` into an error like any other: in an event loop's task it would end the whole run.

    A class, since a generator costs several times as much at each of a search's many calls.

    Args:
        what: Whose code is run, for the message.

    Raises:
        AtomThinkError: It called `sys.exit`.
    """

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        """Begins to watch."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Raises the error in place of an exit."""
        if isinstance(error, SystemExit):
            raise AtomThinkError(f"{self._what} called sys.exit({error.code!r}): have it raise an exception") from error
