"""One JSON line per finished question, so that a run that was killed can be resumed."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path as FilePath
from typing import Any, Final

from atomthink_plugin.api import Outcome, Policy, Question, Result, Scorer
from atomthink_plugin.append_log import AppendLog, DamagedLine, unwritable
from atomthink_plugin.files import write_atomically
from atomthink_plugin.runtime.journal_reader import load_outcome, rank_files, read_entries
from atomthink_plugin.runtime.partial_log import PartialLog, Recorder
from atomthink_plugin.runtime.records import decode, dump, encode
from atomthink_plugin.runtime.thumbnails import Thumbnails

log = logging.getLogger(__name__)

_ARGUMENT: Final = "`journal=FOLDER` (`journal=off` runs without a journal)"


class Journal:
    """The finished questions of one run configuration: a folder with one file per process.

    The name of the folder has a digest of everything that changes results. Each record has a digest of its question.
    A record is therefore only used for the same question under the same configuration. Failures are recorded too, and
    the next run asks them again. The folder `images` has a thumbnail of every image; the field `images` of a record
    has the file names in the order of the prompt. Model answers about unfinished questions are in separate files,
    `partial_rank*.jsonl`.

    Args:
        folder: The folder of all journals.
        name: Readable beginning of this configuration's folder name.
        settings: Everything that changes results: model, scorer, search, format, seed, limits.
        rank: Index of this process.
        argument: What the user chose the folder with, for errors.

    Raises:
        AtomThinkError: Another process writes this journal, or one of its files cannot be read or written.
    """

    def __init__(
        self, folder: FilePath, name: str, settings: Mapping[str, Any], rank: int = 0, argument: str = _ARGUMENT
    ) -> None:
        self._argument = argument
        digest = hashlib.blake2b(dump(settings).encode(), digest_size=6).hexdigest()
        self.folder = folder / f"{name}-{digest}"
        self.thumbnails = Thumbnails(self.folder / "images")
        self._settings = json.dumps(settings, indent=1, sort_keys=True, default=str).encode()
        self._own = self.folder / f"rank{rank}.jsonl"
        self._write_settings()
        with ExitStack() as undo:
            self._log = AppendLog(self._own, argument, encode=encode, decode=decode)
            undo.callback(self._log.close)
            self._places = self._read()
            self._partial = PartialLog(self.folder, rank, self._places)
            undo.pop_all()

    def __len__(self) -> int:
        """Returns how many questions are finished."""
        return len(self._places)

    def get(self, question: Question) -> Outcome | None:
        """Returns the outcome of a question that is finished, or None."""
        if question.key not in self._places:
            return None
        self._restore_deleted()
        file, start = self._places[question.key]
        try:
            return load_outcome(file, start)
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s: the record of question %s is lost (%s). It is asked again", file, question.id, error)
            return None

    def recorder(self, question: Question, policies: Mapping[str, Policy], scorer: Scorer | None) -> Recorder:
        """Returns a recorder that asks the models about a question and logs their answers until `put`."""
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
        self._restore_deleted()
        start, _ = self._log.append(record, sync=True)
        if done:
            self._places[question.key] = self._own, start
            self._partial.finish(question.key)
        else:
            self._partial.fail(question.key)

    def close(self) -> None:
        """Closes this process's files. Other processes can write them then."""
        self._partial.close()
        self._log.close()

    def _read(self) -> dict[str, tuple[FilePath, int]]:
        """Returns the place of each outcome. The trees of all outcomes may not fit in memory."""
        places = {}
        for entry in read_entries(rank_files(self.folder)):
            if isinstance(entry, DamagedLine):
                entry.warn()
            elif isinstance(entry.result, Outcome):
                places[entry.key] = entry.file, entry.start
        return places

    def _write_settings(self) -> None:
        file = self.folder / "settings.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(file, [self._settings])
        except OSError as error:
            raise unwritable(file, self._argument, error) from error

    def _restore_deleted(self) -> None:
        """Writes this process's file again if it was deleted or moved. Its content is still open."""
        if not self._log.replaced():
            return
        log.error("The journal %s was deleted or moved during the run. It is written again", self._own)
        shift = self._log.restore()
        self._write_settings()
        self._partial.rewrite()
        self._places = {key: (file, start + shift * (file == self._own)) for key, (file, start) in self._places.items()}
