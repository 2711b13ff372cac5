"""Questions whose tokens lie in several extents, joined in one, so that all their rows share it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from atomthink_plugin.inference.slots.allocator import PoolFullError
from atomthink_plugin.inference.slots.pool import KvPool, TokenRun

_MOST: Final = 256
"""Joined questions that are kept at most."""


class QuestionRuns:
    """Copies of questions' tokens in one extent each; the least recently used are dropped.

    The prefix tree divides a question's tokens where another question with the same beginning was read before.
    """

    def __init__(self) -> None:
        self._runs: OrderedDict[tuple[str, tuple[int, ...]], TokenRun] = OrderedDict()

    def joined(
        self,
        pool: KvPool,
        root: str,
        ids: tuple[int, ...],
        pieces: Sequence[TokenRun],
        pending: list[tuple[int, int, int]],
    ) -> TokenRun | None:
        """Returns the tokens of a question side by side, None if the pool has no room for them.

        Args:
            pool: The pool.
            root: Names the images.
            ids: The question's tokens.
            pieces: Where they are now.
            pending: Gets the copies that must be made before the tokens are read.
        """
        key = root, ids
        if (run := self._runs.get(key)) is None:
            try:
                extent = pool.allocate(len(ids))
            except PoolFullError:
                return None
            at = 0
            for piece in pieces:
                count = min(len(piece), len(ids) - at)
                pending.append((piece.start, extent.start + at, count))
                at += count
            run = self._runs[key] = TokenRun(pool, extent, 0, len(ids))
        self._runs.move_to_end(key)
        while len(self._runs) > _MOST:
            self._runs.popitem(last=False)[1].release()
        return run

    def drop_unused(self) -> bool:
        """Drops those that no row attends to; returns whether there were any."""
        unused = [key for key, run in self._runs.items() if run.extent.users == 1]
        for key in unused:
            self._runs.pop(key).release()
        return bool(unused)

    def clear(self) -> None:
        """Drops all."""
        for run in self._runs.values():
            run.release()
        self._runs.clear()
