"""One JSON line per finished question, so that a killed run goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields
from pathlib import Path as FilePath
from typing import Any, BinaryIO

from atomthink_plugin.api import AtomThinkError, Node, Outcome, Policy, Question, Result, Rollout, Scorer, Usage
from atomthink_plugin.runtime.files import write_all, write_atomically
from atomthink_plugin.runtime.locking import JournalLock
from atomthink_plugin.runtime.partial_log import PartialLog, Recorder
from atomthink_plugin.runtime.records import decode, dump, encode, lines, rank_files
from atomthink_plugin.runtime.thumbnails import Thumbnails

log = logging.getLogger(__name__)


class Journal:
    """Finished questions of one run configuration, in one folder, one file per process.

    The folder's name carries the digest of everything that changes results, and each record the digest
    of its question, so that a record is only ever read back for the same question thought about in the
    same way. Failures are written too, and asked again by the next run. The folder `images` has a thumbnail of every
    image of a question; a record's `images` has their file names in the order of the prompt. What the models answered
    about unfinished questions is in files of its own, `partial_rank*.jsonl`.

    Args:
        folder: Where journals live.
        name: Readable beginning of this configuration's folder name.
        settings: Everything that changes results: model, scorer, search, format, seed, limits.
        rank: Index of this process.

    Raises:
        AtomThinkError: Another process writes this journal, or one of its files cannot be read.
        OSError: The folder cannot be written.
    """

    def __init__(self, folder: FilePath, name: str, settings: Mapping[str, Any], rank: int = 0) -> None:
        digest = hashlib.blake2b(dump(settings).encode(), digest_size=6).hexdigest()
        self.folder = folder / f"{name}-{digest}"
        self.thumbnails = Thumbnails(self.folder / "images")
        self._settings = json.dumps(settings, indent=1, sort_keys=True, default=str).encode()
        self._rank = rank
        self._own = self.folder / f"rank{rank}.jsonl"
        self._begin_folder()
        self._lock = JournalLock(self.folder, rank)
        with ExitStack() as opened:  # undone if a file cannot be read or opened
            opened.callback(self._lock.release)
            self._places = self._read()
            self._file = opened.enter_context(self._open())
            self._partial = PartialLog(self.folder, rank, self._places)
            opened.pop_all()

    def __len__(self) -> int:
        """Returns how many questions are finished."""
        return len(self._places)

    def get(self, question: Question) -> Outcome | None:
        """Returns the outcome of a question that was finished before."""
        if question.key not in self._places:
            return None
        with self._writing():
            self._keep_in_place()
        path, start = self._places[question.key]
        try:
            with path.open("rb") as file:
                file.seek(start)
                return outcome_of(decode(file.readline())["outcome"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s has lost question %s (%s): it is asked again", path, question.id, error)
            return None

    def recorder(self, question: Question, policies: Mapping[str, Policy], scorer: Scorer | None) -> Recorder:
        """Returns what asks the models about a question, and remembers their answers until `put`."""
        return Recorder(self._partial, question, policies, scorer)

    def put(self, question: Question, result: Result) -> None:
        """Appends one record and waits until it is on disk.

        Raises:
            AtomThinkError: It cannot be written.
        """
        record: dict[str, Any] = {"key": question.key, "question": question.id, "text": question.text}
        record["choices"] = question.choices
        record["images"] = self.thumbnails.keep(question.images)
        done = isinstance(result, Outcome)
        record |= {"status": "done", "outcome": result} if done else {"status": "failed", "failure": result}
        start = self._append(encode(record))
        if done:
            self._places[question.key] = self._own, start
            self._partial.finish(question.key)
        else:
            self._partial.fail(question.key)

    def close(self) -> None:
        """Closes this process's files and lets other processes write them."""
        self._file.close()
        self._partial.close()
        self._lock.release()

    def _append(self, line: bytes) -> int:
        """Writes a line and returns where it starts."""
        with self._writing():
            self._keep_in_place()
            start = self._file.seek(0, os.SEEK_END)
            try:
                write_all(self._file, line)
                os.fsync(self._file.fileno())
            except OSError:
                with suppress(OSError):
                    self._file.truncate(start)
                raise
            return start

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise AtomThinkError(
                f"the journal {self._own} cannot be written ({error.strerror}): free space there or pass "
                "`journal=FOLDER`; what is finished is kept for the next run"
            ) from error

    def _read(self) -> dict[str, tuple[FilePath, int]]:
        """Returns where each outcome is: all their trees may not fit in memory."""
        places = {}
        for path in rank_files(self.folder):
            for line in lines(path):
                try:
                    record = line.record()
                    if record["status"] == "done":
                        outcome_of(record["outcome"])
                        places[record["key"]] = path, line.start
                except (ValueError, KeyError, TypeError) as error:
                    log.warning("%s line %d is damaged (%s): its question is asked again", path, line.number, error)
        return places

    def _begin_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / "settings.json", [self._settings])

    def _open(self) -> BinaryIO:
        """Opens this process's file and ends a killed run's half-written last line."""
        if self._own.exists() and not self._own.is_file():
            raise AtomThinkError(f"{self._own} is not a file: move it away, or pass `journal=FOLDER`")
        file = self._own.open("a+b", buffering=0)
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        return file

    def _keep_in_place(self) -> None:
        """Writes this process's file again where it was deleted or moved; its content is still open."""
        with suppress(OSError):
            if os.path.samestat(os.fstat(self._file.fileno()), self._own.stat()):
                return
        log.error("the journal %s was deleted or moved during the run: it is written again", self._own)
        self._begin_folder()
        self._lock_again()
        restored = self._open()
        shift = restored.seek(0, os.SEEK_END)
        for chunk in self._content():
            write_all(restored, chunk)
        os.fsync(restored.fileno())
        self._file.close()
        self._file = restored
        self._partial.rewrite()
        self._places = {key: (path, start + shift * (path == self._own)) for key, (path, start) in self._places.items()}

    def _content(self) -> Iterator[bytes]:
        try:
            self._file.seek(0)
            while chunk := self._file.read(1 << 20):
                yield chunk
        except OSError as error:  # some network file systems let go of a deleted file at once
            log.error("what the deleted journal %s held is lost and asked again by the next run: %s", self._own, error)

    def _lock_again(self) -> None:
        self._lock.release()
        try:
            self._lock = JournalLock(self.folder, self._rank)
        except AtomThinkError as error:
            log.error("%s", error)


def outcome_of(record: dict[str, Any]) -> Outcome:
    """Returns an outcome as it was before it was written.

    Raises:
        KeyError: Or TypeError: it is none.
    """
    values = {item.name: record[item.name] for item in fields(Outcome) if item.name != "rollouts"}
    values["usage"] = Usage(**record["usage"])
    values["nodes"] = tuple(Node(**node) for node in record["nodes"])
    # Journals that were begun before rollouts were kept have none; what they hold stays good.
    values["rollouts"] = tuple(Rollout(**rollout) for rollout in record.get("rollouts", ()))
    values["steps"], values["scores"] = tuple(record["steps"]), tuple(record["scores"])
    return Outcome(**values)
