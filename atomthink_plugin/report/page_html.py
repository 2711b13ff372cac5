"""One HTML file that shows runs. It is self-contained and makes no network requests."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from typing import Any, Final, TextIO

from jinja2 import Environment, PackageLoader, StrictUndefined

from atomthink_plugin.accuracy_stats import wilson
from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.redaction import redact
from atomthink_plugin.report.latex import Latex
from atomthink_plugin.report.output_files import base_style
from atomthink_plugin.report.packed_data import packed, pieces
from atomthink_plugin.report.page_data import (
    QuestionAnswers,
    list_entry,
    merge_questions,
    question_details,
    search_text,
    verdict,
)
from atomthink_plugin.report.page_images import PageImages
from atomthink_plugin.report.paired_runs import thinking
from atomthink_plugin.report.preamble import questions_in
from atomthink_plugin.report.run_reader import RecordedRun, RunQuestion
from atomthink_plugin.runtime.progress import track

LIMIT: Final = 60_000_000
"""The largest size of the page in bytes. Images are made smaller to reach it."""

_RESERVE: Final = 500_000
"""Bytes for markup and for references to images."""

_NO_RECORD: Final = "images are stored in the journal of a run, and no journal has a record of this question"
_OLDER: Final = "the journal was written by an older version, which stored no images"

_SCRIPTS: Final = ("data", "maths", "dom", "list", "map", "outline", "question", "main")
_PAGE: Final = files(__package__) / "page"


def write_page(file: TextIO, runs: Sequence[RecordedRun], progress: bool = False) -> None:
    """Writes the page of one run, or of two runs side by side.

    Args:
        file: The open file.
        runs: One or two runs.
        progress: Whether to show the progress.
    """
    questions = merge_questions(runs)
    searches = [run.settings.get("search", {}) for run in runs]
    sizes, packs = [], []
    latex = Latex()
    tracked = _tracked(questions, "questions", progress)
    for size, text in pieces(latex.scan(question_details(question, searches)) for question in tracked):
        sizes.append(size)
        packs.append(text)
    searched = packed([search_text(question) for question in questions])
    alone = questions_in([(one.any.task, one.any.text, one.any.record) for one in questions])
    lines = [list_entry(question, text) for question, text in zip(questions, alone, strict=True)]
    taken = len(packed(lines)) + len(searched) + sum(map(len, packs)) + len(latex.script() + latex.style()) + _RESERVE
    pictures = PageImages(max(LIMIT - taken, 0) * 3 // 4)
    unseen = _illustrate(lines, _tracked(questions, "images", progress), pictures)
    tasks = len({line["task"] for line in lines})
    index = {"runs": len(runs), "tasks": tasks, "questions": lines, "pieces": sizes, "unseen": unseen}
    notes = [*_notes(runs, questions), *(f"images are missing: {reason}" for reason in unseen)]
    _render(file, runs, notes, latex, packed(index), packs, searched, pictures.encoded)


def _tracked(items: Sequence[QuestionAnswers], unit: str, progress: bool) -> Iterable[QuestionAnswers]:
    return track(items, unit) if progress else items


def _illustrate(
    lines: Sequence[dict[str, Any]], questions: Iterable[QuestionAnswers], pictures: PageImages
) -> list[str]:
    """Adds to each line the indices of its images, or the index of the reason why it has none. Returns the reasons.

    The remaining space is shared evenly among the remaining questions.
    """
    reasons: dict[str, int] = {}
    for i, (line, question) in enumerate(zip(lines, questions, strict=True)):
        images = _images(question)
        if images is None:
            recorded = any(answer is not None and answer.entry is not None for answer in question.answers)
            line["unseen"] = reasons.setdefault(_OLDER if recorded else _NO_RECORD, len(reasons))
            continue
        share = pictures.room // (len(lines) - i) // max(len(images), 1)
        for image in images:
            try:
                line.setdefault("pictures", []).append(pictures.add(image, share))
            except AtomThinkError as error:
                line["unseen"] = reasons.setdefault(str(error), len(reasons))
    return list(reasons)


def _images(question: QuestionAnswers) -> Sequence[Path] | None:
    kept = (answer.images for answer in question.answers if answer is not None)
    return next((images for images in kept if images is not None), None)


def _notes(runs: Sequence[RecordedRun], questions: Sequence[QuestionAnswers]) -> Iterator[str]:
    """Yields notes about differences between the runs."""
    alone = sum(None in question.answers for question in questions)
    if alone:
        yield f"{alone:,} of {len(questions):,} questions were asked in only one of the runs"
    other = sum(not question.alike for question in questions)
    if other:
        yield f"{other:,} questions have another text or reference answer in the second run. The first run's are shown"
    if len({run.scorer for run in runs}) > 1:
        yield "the verdicts come from different scorers: " + ", ".join(run.scorer or "none" for run in runs)


def _render(
    file: TextIO,
    runs: Sequence[RecordedRun],
    notes: Sequence[str],
    latex: Latex,
    index: str,
    packs: Sequence[str],
    searched: str,
    pictures: Sequence[bytes],
) -> None:
    style = base_style() + (_PAGE / "style.css").read_text(encoding="utf-8")
    parts = ((_PAGE / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS)
    script = '(async () => {\n"use strict";\n' + "\n".join(parts) + "})();\n"
    environment = Environment(loader=PackageLoader(__package__, "page"), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("page.html.jinja").stream(
        title=" against ".join(run.name for run in runs),
        runs=[_header(run) for run in runs],
        notes=notes,
        warnings=len(notes) + sum(len(run.missing) for run in runs),
        styles=_inline(style, latex.style()),
        scripts=_inline(latex.script(), script),
        index=index,
        pieces=packs,
        words=searched,
        pictures=(base64.b64encode(picture).decode("ascii") for picture in pictures),
    )
    file.writelines(page)


def _inline(*texts: str) -> list[dict[str, str]]:
    """Returns inline styles or scripts with their digests. The page's content policy allows nothing else."""
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii") for text in texts)
    return [{"text": text, "digest": f"sha256-{digest}"} for text, digest in zip(texts, digests, strict=True) if text]


def _header(run: RecordedRun) -> dict[str, Any]:
    facts = [("model", run.model), ("tasks", ", ".join(run.tasks)), ("verdicts by", run.scorer or "none")]
    return {
        "name": run.name,
        "missing": run.missing,
        "made": redact(" · ".join(filter(None, (run.model, thinking(run.settings), ", ".join(run.tasks))))),
        "figures": [*_figures(run.questions), *_times(run)],
        "facts": [*facts, *_flat(run.settings)],
    }


def _figures(questions: Sequence[RunQuestion]) -> Iterator[dict[str, str]]:
    """Yields the figures in the header of the page."""
    known = [question.correct for question in questions if question.correct is not None]
    if known:
        low, high = wilson(sum(known), len(known))
        more = f"{100 * sum(known) / len(known):.1f} % ({100 * low:.1f} to {100 * high:.1f})"
        yield {"name": "right", "value": f"{sum(known):,} of {len(known):,}", "more": more}
    else:
        yield {"name": "questions", "value": f"{len(questions):,}", "more": ""}
    failed = sum(verdict(question) == "failed" for question in questions)
    budget = sum(question.stopped == "budget" for question in questions)
    if failed:
        yield {"name": "failed", "value": f"{failed:,}", "more": ""}
    if budget:
        yield {"name": "stopped by budget", "value": f"{budget:,}", "more": ""}
    for name, digits in (("tokens", 0), ("policy_calls", 1), ("prm_calls", 1)):
        spent = [value for question in questions if (value := getattr(question, name)) is not None]
        if any(spent):
            label = {"prm_calls": "PRM calls"}.get(name, name.replace("_", " "))
            yield {"name": label, "value": f"{fmean(spent):,.{digits}f}", "more": "each"}


def _times(run: RecordedRun) -> Iterator[dict[str, str]]:
    """Yields the seconds per question and the latency, which includes waiting for other questions in flight."""
    if run.pace is not None:
        yield {"name": "time", "value": _seconds(run.pace), "more": "per question"}
    if run.latency is not None:
        others = "others" if run.in_flight is None else f"{run.in_flight:.0f}"
        yield {"name": "latency", "value": _seconds(run.latency), "more": f"from start to answer, {others} in flight"}


def _seconds(seconds: float) -> str:
    return f"{seconds:,.{2 if seconds < 10 else 1}f} s"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None:
            yield prefix + name, redact(str(value))
