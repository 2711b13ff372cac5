"""`atomthink pairs`: from journals, chains, or a search that is run for it, to a file of pairs."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.named_models import plan_for
from atomthink_plugin.runtime.build import build, open_journal
from atomthink_plugin.training.pairs.journals import finished, journal_files
from atomthink_plugin.training.pairs.pairing import PairLimits, from_chains, from_journal, read_known
from atomthink_plugin.training.pairs.tally import Tally
from atomthink_plugin.training.records import (
    AnsweredQuestion,
    Pair,
    RecordFile,
    sibling_file,
    write_records,
    write_rejects,
)

log = logging.getLogger(__name__)


def make_pairs(sources: Sequence[Path], questions: Path | None, out: Path, limits: PairLimits) -> None:
    """Writes the pairs of journals and chains, beside them what was set aside, and says how many of which kind.

    Args:
        sources: Folders or files of journals, and files of chains.
        questions: The questions of the journals, with images and, where known, answers.
        out: The file to write.
        limits: Which pairs are made.

    Raises:
        AtomThinkError: A file cannot be used, or there is no pair.
    """
    tally = Tally()
    known: dict[str, AnsweredQuestion] | None = None
    parts: list[Iterator[Pair]] = []
    for source in sources:
        files = journal_files(source)
        if not files:
            parts.append(from_chains(source, out, limits, tally))
            continue
        if questions is None:
            raise AtomThinkError(f"{source} is a journal, which holds no images: name its questions with `--questions`")
        if known is None:
            known, rejects = read_known(questions, out)
            tally.aside("questions", rejects)
            tally.counts["questions"] += len(known)
        parts.append(from_journal(finished(files, tally), known, limits, tally))
    written = write_records(out, _unique(chain(*parts), tally.counts))
    aside = sibling_file(out, "rejects.jsonl")
    write_rejects(aside, tally.rejects)
    log.info("%s", "; ".join(f"{count} {name}" for name, count in tally.counts.items() if count))
    if tally.rejects:
        log.warning("set aside, with the reasons: %s", aside)
    if not written:
        raise AtomThinkError(f"{', '.join(map(str, sources))}: no pair; lower `--margin`, or search more widely")
    log.info("%d pairs: %s", written, out)


def search(model: str, typed: Mapping[str, Any], questions: Path, out: Path) -> Path:
    """Searches all questions of a file and returns the folder of the journal, beside `out`.

    Args:
        model: As for lmms-eval.
        typed: Its arguments.
        questions: JSONL with id, question, images.
        out: Where the pairs are to be written.

    Raises:
        AtomThinkError: There is no such model, or an argument cannot be used.
    """
    run = plan_for(model, {"journal": str(out.absolute().parent / "journal"), **typed})
    runner = build(run)
    journal = open_journal(run, runner, model)
    if journal is None:
        raise AtomThinkError("`journal=off`: pairs are made from the journal; leave it out, or name a folder")
    known, _ = read_known(questions, questions)
    with closing(journal):
        replace(runner, journal=journal).run(RecordFile(questions.parent, list(known.values())))
    return journal.folder


def _unique(pairs: Iterator[Pair], counts: Counter[str]) -> Iterator[Pair]:
    """Yields each pair once; names that come again get a number."""
    seen: set[tuple[object, ...]] = set()
    names: Counter[str] = Counter()
    for pair in pairs:
        key = (pair.question, pair.images, pair.history, pair.chosen, pair.rejected)
        if key in seen:
            counts["pairs that came twice"] += 1
            continue
        seen.add(key)
        names[pair.id] += 1
        yield pair if names[pair.id] == 1 else pair.model_copy(update={"id": f"{pair.id}/{names[pair.id]}"})
