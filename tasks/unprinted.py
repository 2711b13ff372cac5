"""A metric that is written and not printed."""

from __future__ import annotations

from typing import Any


class Unprinted(dict[str, Any]):
    """A mapping for the results file only: lmms-eval's printed table leaves out values of length 0."""

    def __len__(self) -> int:
        """Returns 0."""
        return 0

    def __bool__(self) -> bool:
        """Returns True, because JSON would otherwise leave out the content."""
        return True
