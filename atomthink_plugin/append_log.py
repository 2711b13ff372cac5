"""Append-only JSON Lines files: run journals, the ledger of a teacher's replies, files of scores.

A killed run leaves at most one incomplete line, which the next run skips.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.file_lock import WriterLock
from atomthink_plugin.files import write_all, write_atomically

log = logging.getLogger(__name__)


class LogEntry(NamedTuple):
    """One entry of a log.

    Attributes:
        file: The file.
        number: The number of its line, from 1.
        start: The byte its line starts at.
        size: The size of its line in bytes, with the line break.
        record: What it holds.
    """

    file: Path
    number: int
    start: int
    size: int
    record: Mapping[str, Any]

    @property
    def place(self) -> str:
        """The name of the file and the number of the line, as `rank0.jsonl:7`."""
        return f"{self.file.name}:{self.number}"


class DamagedLine(NamedTuple):
    """A line of a log that cannot be read.

    Attributes:
        file: The file.
        number: The line's number, from 1.
        content: The line.
        reason: Why it cannot be read.
    """

    file: Path
    number: int
    content: bytes
    reason: str

    @property
    def place(self) -> str:
        """The name of the file and the number of the line, as `rank0.jsonl:7`."""
        return f"{self.file.name}:{self.number}"

    def warn(self) -> None:
        """Logs that the line is ignored."""
        log.warning("%s line %d is damaged and ignored: %s", self.file, self.number, self.reason)


def encode_json(record: Mapping[str, Any]) -> bytes:
    """Returns a record as one line of JSON."""
    return json.dumps(record, ensure_ascii=False, default=str).encode("utf-8", "replace") + b"\n"


def decode_json(line: bytes) -> dict[str, Any]:
    """Returns the record of a line.

    Raises:
        ValueError: The line is not a JSON object.
    """
    try:
        record = json.loads(line)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(record, dict):
        raise ValueError("it is not a JSON object")
    return record


def read_log(
    file: Path, decode: Callable[[bytes], Mapping[str, Any]] = decode_json
) -> Iterator[LogEntry | DamagedLine]:
    """Yields the entries and the damaged lines of a log in order. Blank lines are left out.

    Args:
        file: The log. Another process may be writing it.
        decode: Returns the record of a line, or raises ValueError.

    Raises:
        AtomThinkError: The file cannot be read.
    """
    start = 0
    try:
        with file.open("rb") as content:
            for number, line in enumerate(content, 1):
                if line.strip():
                    yield _read_line(file, number, start, line, decode)
                start += len(line)
    except OSError as error:
        raise AtomThinkError(f"{file} cannot be read ({error.strerror}). Make it readable or move it away") from None


def _read_line(
    file: Path, number: int, start: int, line: bytes, decode: Callable[[bytes], Mapping[str, Any]]
) -> LogEntry | DamagedLine:
    try:
        return LogEntry(file, number, start, len(line), decode(line))
    except ValueError as error:
        return DamagedLine(file, number, line, str(error))


class AppendLog:
    """A log that this process appends to.

    Args:
        file: The file. It and its folder are created if they do not exist.
        argument: What the user chose the file with, for errors, as "`--out DIR`".
        encode: Returns a record as one line.
        decode: Returns the record of a line, or raises ValueError.
        lock: Whether to refuse a second writing process.

    Raises:
        AtomThinkError: Another process writes the file, or it cannot be opened.
    """

    def __init__(
        self,
        file: Path,
        argument: str,
        *,
        encode: Callable[[Mapping[str, Any]], bytes] = encode_json,
        decode: Callable[[bytes], Mapping[str, Any]] = decode_json,
        lock: bool = True,
    ) -> None:
        self.file, self.argument = file, argument
        self._encode, self._decode = encode, decode
        self._healed = False  # a file that is opened to be refused is not changed
        with self._writing(), ExitStack() as undo:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._lock = WriterLock(file, argument) if lock else None
            undo.callback(self._release)
            self._out = self._open()
            undo.pop_all()

    def entries(self) -> Iterator[LogEntry]:
        """Yields the readable entries, and warns of damaged lines.

        Raises:
            AtomThinkError: The file cannot be read.
        """
        for entry in read_log(self.file, self._decode):
            if isinstance(entry, DamagedLine):
                entry.warn()
            else:
                yield entry

    def append(self, record: Mapping[str, Any], *, sync: bool = False) -> tuple[int, int]:
        """Appends a record as one line.

        Args:
            record: The record.
            sync: Whether to wait until the line is on disk. Without it, a crash of the machine loses the last seconds.

        Returns:
            The byte the line starts at and its size.

        Raises:
            AtomThinkError: It cannot be written. No part of it is left in the file.
        """
        line = self._encode(record)
        try:
            if not self._healed:
                _end_line(self._out)
                self._healed = True
            start = self._out.seek(0, os.SEEK_END)
            try:
                write_all(self._out, line)
                if sync:
                    os.fsync(self._out.fileno())
            except OSError:
                with suppress(OSError):
                    self._out.truncate(start)
                raise
        except OSError as error:  # not `self._writing`, which costs a tenth of a call
            raise unwritable(self.file, self.argument, error) from error
        return start, len(line)

    def replaced(self) -> bool:
        """Returns whether the file was deleted, moved or replaced since it was opened."""
        with suppress(OSError):
            return not os.path.samestat(os.fstat(self._out.fileno()), self.file.stat())
        return True

    def restore(self) -> int:
        """Writes the entries again at the end of a new file, after `replaced`.

        Returns:
            By how many bytes the starts of the entries moved.

        Raises:
            AtomThinkError: The new file cannot be written.
        """
        with self._writing():
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._lock_again()
            restored = self._open()
            shift = _end_line(restored)
            for chunk in self._chunks():
                write_all(restored, chunk)
            os.fsync(restored.fileno())
            self._out.close()
            self._out = restored
        return shift

    def rewrite(self, lines: Iterable[bytes]) -> None:
        """Replaces the file's content.

        Raises:
            AtomThinkError: It cannot be written. The file is as it was.
        """
        with self._writing():
            write_atomically(self.file, lines)
            self._out.close()
            self._out = self._open()

    def read(self, start: int, size: int) -> bytes:
        """Returns a part of the file."""
        self._out.seek(start)
        return self._out.read(size)

    def close(self) -> None:
        """Closes the file. Other processes can write it then."""
        self._out.close()
        self._release()

    def _open(self) -> BinaryIO:
        return self.file.open("a+b", buffering=0)

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def _lock_again(self) -> None:
        """Locks the new file. If another process was faster, the run continues without a lock."""
        if self._lock is None:
            return
        self._lock.release()
        try:
            self._lock = WriterLock(self.file, self.argument)
        except AtomThinkError as error:
            log.error("%s", error)

    def _chunks(self) -> Iterator[bytes]:
        try:
            self._out.seek(0)
            while chunk := self._out.read(1 << 20):
                yield chunk
        except OSError as error:  # some network file systems drop a deleted file at once
            log.error("The entries of the deleted file %s are lost: %s", self.file, error)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise unwritable(self.file, self.argument, error) from error


def unwritable(file: Path, argument: str, error: OSError) -> AtomThinkError:
    """Returns the error for a file that cannot be written.

    Args:
        file: The file.
        argument: What the user chose the file with.
        error: What the operating system says.
    """
    return AtomThinkError(
        f"{file} cannot be written ({error.strerror}). Free space there, change its permissions or choose another "
        f"place with {argument}. What was written before is kept"
    )


def _end_line(file: BinaryIO) -> int:
    """Ends the incomplete last line that a killed run left, and returns the size of the file."""
    size = file.seek(0, os.SEEK_END)
    if size:
        file.seek(size - 1)
        if file.read(1) != b"\n":
            size += file.write(b"\n")
    return size
