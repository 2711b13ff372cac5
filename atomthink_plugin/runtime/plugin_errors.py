"""Errors in the code of plugins: formats, units, searches."""

from __future__ import annotations

from types import TracebackType

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.exits import no_exit


class named(no_exit):  # noqa: N801
    """Adds the name of the plugin's code to its errors.

    Args:
        what: The name of the code, for the message.

    Raises:
        AtomThinkError: The code raised an error of another kind, or called `sys.exit`.
    """

    __slots__ = ()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Raises the error with the name of the code."""
        super().__exit__(kind, error, where)
        if isinstance(error, Exception) and not isinstance(error, AtomThinkError):
            raise AtomThinkError(f"{self._what} failed: {type(error).__name__}: {error}") from error
