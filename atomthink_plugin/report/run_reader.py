"""Reads a run: an lmms-eval output folder of any model, joined with its journal if there is one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from atomthink_plugin.api import AtomThinkError, Outcome
from atomthink_plugin.formats.task_form import in_task_form
from atomthink_plugin.report.journals import JournalContents, JournaledQuestion, find_journal, is_journal, read_journal
from atomthink_plugin.report.run_samples import Run, Sample, read_run
from atomthink_plugin.report.verdicts import Verdicts
from atomthink_plugin.runtime.journal_reader import journals_in


@dataclass(frozen=True, slots=True)
class RunQuestion:
    """One question of a run with the answer of any model.

    Costs are None if the model does not report them.

    Attributes:
        task: The task.
        doc_id: The index of the question in the task.
        repeat: The index of the request among those about the question.
        text: The text of the question.
        options: Its options, if the samples or the journal have them.
        target: The reference answer, None if it is unknown.
        reply: The scored reply.
        extracted: The answer that the task's scorer extracted from the reply, None if it is not reported.
        correct: The task's verdict, or None. A failed question is wrong, whatever the verdict on its empty reply.
        rule: The rule of the verdict, None if it is not reported.
        scorer: The scorer of the verdict: ours with its version, or the metric and the version of the task.
        groups: The categories of the question, by grouping.
        failed: Why it failed, None if it did not.
        tokens: Tokens sampled from policies and by a generative scorer, including those before a failure.
        policy_calls: Samples drawn from policies: steps, and replies outside the chains.
        prm_calls: Scored paths.
        seconds: The latency: seconds from the question's first call to its outcome, with other questions in flight.
            None if they are not known, as of candidates that were sampled elsewhere.
        stopped: Why the search ended.
        entry: Its record in the journal, or None.
        record: The benchmark's record of the question, empty for tasks that do not log it.
        benchmark: The benchmark of this package that scored it, None for other tasks.
    """

    task: str
    doc_id: int
    repeat: int
    text: str
    options: tuple[str, ...]
    target: str | None
    reply: str
    extracted: str | None
    correct: bool | None
    rule: str | None
    scorer: str | None
    groups: Mapping[str, tuple[str, ...]]
    failed: str | None
    tokens: int | None
    policy_calls: int | None
    prm_calls: int | None
    seconds: float | None
    stopped: str | None
    entry: JournaledQuestion | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    benchmark: str | None = None

    @property
    def id(self) -> tuple[str, int, int]:
        """The identity of the question in all runs."""
        return self.task, self.doc_id, self.repeat

    @property
    def images(self) -> tuple[Path, ...] | None:
        """Files with the thumbnails of its images, None if no journal has them."""
        return None if self.entry is None else self.entry.images

    @property
    def outcome(self) -> Outcome | None:
        """The outcome with its tree, read from the journal at each access, or None."""
        return None if self.entry is None else self.entry.load()


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run named on the command line.

    Attributes:
        name: The last part of that name.
        model: The model's name in lmms-eval.
        settings: The settings of the journal, without a journal the model arguments.
        scorer: The scorer of the verdicts, None without verdicts.
        tasks: Its tasks.
        questions: Its questions, ordered by task.
        missing: Notes about missing or damaged data.
        pace: Wall-clock seconds of the model divided by the questions. None if the run does not report them or was
            resumed.
    """

    name: str
    model: str
    settings: Mapping[str, Any]
    scorer: str | None
    tasks: tuple[str, ...]
    questions: Sequence[RunQuestion]
    missing: Sequence[str]
    pace: float | None = None

    @property
    def latency(self) -> float | None:
        """The mean seconds from a question's first call to its outcome, or None."""
        known = [question.seconds for question in self.questions if question.seconds is not None]
        return fmean(known) if known else None

    @property
    def in_flight(self) -> float | None:
        """The mean number of questions in flight by Little's law, None without pace or latency."""
        return self.latency / self.pace if self.latency is not None and self.pace else None


def read(run: Path, journal: Path | None = None) -> RecordedRun:
    """Reads a run and its journal.

    Args:
        run: The folder of lmms-eval's `--output_path`, a `..._results.json` in it, or a journal's folder.
        journal: The journal's folder or its parent. Needed only if the journal was moved.

    Raises:
        AtomThinkError: There is no run, it has no samples, or `journal` is not its journal.
    """
    if is_journal(run):
        return _read_journal_alone(run)
    try:
        found = read_run(run)
    except AtomThinkError:
        if journals := journals_in(run):
            names = ", ".join(map(str, journals))
            raise AtomThinkError(f"`{run}` contains journals and no run. Name one of them: {names}") from None
        raise
    folder, missing = _journal(found, run, journal)
    contents = read_journal(folder) if folder is not None else None
    lookup = _JournalLookup(contents)
    questions = []
    for task, samples in found.samples.items():
        verdicts = Verdicts(found, task)
        missing += verdicts.missing
        questions += [_answered(sample, verdicts, lookup.entry(sample)) for sample in samples]
    arguments = found.results["config"].get("model_args")
    return RecordedRun(
        name=run.resolve().name.removesuffix("_results.json"),
        model=str(found.results["config"].get("model")),
        settings=contents.settings if contents is not None else {"model_args": arguments},
        scorer="; ".join(sorted({one.scorer for one in questions if one.scorer})) or None,
        tasks=tuple(found.samples),
        questions=questions,
        missing=[*missing, *lookup.missing(questions)],
        pace=_pace(found, questions),
    )


def read_all(runs: Sequence[Path], journals: Sequence[Path]) -> list[RecordedRun]:
    """Reads several runs.

    Args:
        runs: The runs, see `read`.
        journals: The values of `--journal`, one for each run, or empty.

    Raises:
        AtomThinkError: A run cannot be read, or the numbers of runs and journals differ.
    """
    if len(journals) not in (0, len(runs)):
        raise AtomThinkError(
            f"`--journal` was given {len(journals)} times for {len(runs)} runs. Give it once per run or not at all"
        )
    given: Sequence[Path | None] = journals or [None] * len(runs)
    return [read(run, journal) for run, journal in zip(runs, given, strict=True)]


def _read_journal_alone(folder: Path) -> RecordedRun:
    """Returns the questions of a journal without verdicts."""
    contents = read_journal(folder)
    # A question may have failed in one run and be finished by another. The stable sort keeps the order of records.
    last = sorted(contents.entries, key=lambda entry: entry.failed is None)
    latest = {(entry.task, entry.doc_id, entry.repeat): entry for entry in last}
    questions = [_unscored(latest[key]) for key in sorted(latest)]
    verdicts = "no verdicts, because a journal has none. Name the folder of the run's `--output_path` to see verdicts"
    return RecordedRun(
        name=folder.resolve().name,
        model=str(contents.settings.get("policy_weights")),
        settings=contents.settings,
        scorer=None,
        tasks=tuple(dict.fromkeys(question.task for question in questions)),
        questions=questions,
        missing=[verdicts, *_damaged(contents)],
    )


def _unscored(entry: JournaledQuestion) -> RunQuestion:
    return RunQuestion(
        task=entry.task,
        doc_id=entry.doc_id,
        repeat=entry.repeat,
        text=entry.text,
        options=entry.choices,
        target=None,
        reply=entry.reply,
        extracted=None,
        correct=None,
        rule=None,
        scorer=None,
        groups={},
        failed=entry.failed,
        tokens=entry.usage.tokens,
        policy_calls=entry.usage.policy_calls,
        prm_calls=entry.usage.score_calls,
        seconds=entry.usage.seconds or None,
        stopped=entry.stopped,
        entry=entry,
    )


# --- the journal of a run ------------------------------------------------------------------------


def _journal(found: Run, run: Path, given: Path | None) -> tuple[Path | None, list[str]]:
    """Returns the journal's folder, or None and notes about the reason."""
    counts = [sample.counts for samples in found.samples.values() for sample in samples]
    names = sorted({str(one["journal"]) for one in counts if one.get("journal")})
    if len(names) > 1:
        raise AtomThinkError(f"`{run}` states {len(names)} journals ({', '.join(names)}). A run has only one")
    if not any("policy_calls" in one or "status" in one for one in counts):
        return None, [f"`--journal {given}` is not used, because the model of this run has no journal"] if given else []
    name = names[0] if names else ""
    typed = dict(part.split("=", 1) for part in _typed(found) if "=" in part)
    stated = [Path(typed["journal"]).expanduser()] if "journal" in typed else []
    folder = find_journal(name, given, [*stated, found.file.parent, found.file.parent.parent])
    if folder is not None:
        return folder, []
    if name:
        return None, [f"no search trees, because journal `{name}` was not found. Name its folder with `--journal`"]
    return None, [
        "no search trees, because the run has no journal or does not state it. Name its folder with `--journal`"
    ]


def _typed(found: Run) -> list[str]:
    arguments = found.results["config"].get("model_args")
    return arguments.split(",") if isinstance(arguments, str) else []


class _JournalLookup:
    """Finds the record of each sample. A question may have several: with other limits, or from failed attempts."""

    def __init__(self, contents: JournalContents | None) -> None:
        self._contents = contents
        self._entries: dict[tuple[str, int], list[JournaledQuestion]] = {}
        for entry in contents.entries if contents is not None else ():
            if entry.repeat == 0:  # the samples file has only the first reply
                self._entries.setdefault((entry.task, entry.doc_id), []).append(entry)
        self._foreign = 0

    def entry(self, sample: Sample) -> JournaledQuestion | None:
        """Returns the record of the sample's reply, or None.

        Filters of the task may change the reply. It must equal the record's reply only if the costs fit several
        records, or if the run does not state this journal.
        """
        known = self._entries.get((sample.task, sample.doc_id), [])
        spent = [entry for entry in known if _agree(entry, sample)]
        same = [entry for entry in spent if _replied(entry, sample)]
        if not same and sample.counts.get("journal"):
            same = spent
        if known and not same:
            self._foreign += 1
        return same[-1] if same else None

    def missing(self, questions: Sequence[RunQuestion]) -> list[str]:
        """Returns notes about what the journal lacks."""
        if self._contents is None:
            return []
        lost = sum(question.entry is None for question in questions) - self._foreign
        notes = _damaged(self._contents)
        if lost:
            notes.append(
                f"{lost} of {len(questions)} questions have no record in journal `{self._contents.folder.name}`"
            )
        if self._foreign:
            notes.append(f"the journal's records of {self._foreign} questions belong to other replies")
        return notes


def _agree(entry: JournaledQuestion, sample: Sample) -> bool:
    counted = (sample.counts.get("output_tokens"), sample.counts.get("policy_calls"))
    spent = (entry.usage.generated, entry.usage.policy_calls)
    if sample.state == "failed":
        return entry.failed is not None and counted in (spent, (None, None))
    return entry.failed is None and counted == spent


def _replied(entry: JournaledQuestion, sample: Sample) -> bool:
    return sample.reply in (entry.reply, in_task_form(entry.reply, entry.answer, entry.text))


def _damaged(contents: JournalContents) -> list[str]:
    if not contents.damaged:
        return []
    return [f"{contents.damaged} lines of journal `{contents.folder.name}` are damaged or not records"]


# --- the samples ---------------------------------------------------------------------------------


def _sampled_tokens(counts: Mapping[str, Any]) -> int | None:
    """Returns the tokens of the policies and of a generative scorer, None if they are not counted."""
    own = counts.get("output_tokens")
    return None if own is None else int(own) + int(counts.get("judged_tokens") or 0)


def _answered(sample: Sample, verdicts: Verdicts, entry: JournaledQuestion | None) -> RunQuestion:
    fields, counts = sample.fields, sample.counts
    record, breakdown = _mapping(fields.get("question")), _mapping(fields.get("breakdown"))
    target, groups = fields.get("target"), _mapping(fields.get("groups") or breakdown.get("groups"))
    extracted = fields.get("extracted")
    failed = sample.state == "failed"
    usage = entry.usage if entry is not None else None
    return RunQuestion(
        task=sample.task,
        doc_id=sample.doc_id,
        repeat=0,
        text=_text(fields.get("input"), entry),
        options=tuple(map(str, record.get("choices") or record.get("options") or (entry.choices if entry else ()))),
        target=None if target in (None, "", "None") else str(target),
        reply=sample.reply,
        extracted=None if extracted is None else str(extracted),
        correct=False if failed and verdicts.names else verdicts.of(sample),
        rule=fields.get("rule"),
        scorer=fields.get("scorer") or verdicts.scorer,
        groups={name: tuple(map(str, values)) for name, values in groups.items() if isinstance(values, list)},
        failed=str(counts.get("error", "")) if failed else None,
        tokens=usage.tokens if usage is not None else _sampled_tokens(counts),
        policy_calls=counts.get("policy_calls", usage and usage.policy_calls),
        prm_calls=counts.get("score_calls", usage and usage.score_calls),
        seconds=(usage.seconds or None) if usage is not None else None,
        stopped=counts.get("stopped") or None,
        entry=entry,
        record=record,
        benchmark=fields.get("benchmark"),
    )


def _text(reply: Any, entry: JournaledQuestion | None) -> str:
    """Returns the logged text or the journal's text. Some tasks log messages instead of text."""
    if isinstance(reply, str) and reply:
        return reply
    return entry.text if entry is not None else "" if reply is None else json.dumps(reply, ensure_ascii=False)


def _mapping(logged: Any) -> Mapping[str, Any]:
    """Returns a logged mapping. Other tasks may log anything in this field."""
    return logged if isinstance(logged, Mapping) else {}


def _pace(found: Run, questions: Sequence[RunQuestion]) -> float | None:
    """Returns the seconds per question that the model reports. A resumed run reports only a part of its tokens."""
    measured = found.results.get("throughput") or {}
    tokens = sum(question.tokens or 0 for question in questions)
    whole = measured.get("total_gen_tokens") == tokens and tokens > 0
    return (
        float(measured["total_elapsed_time"]) / len(questions) if whole and measured.get("total_elapsed_time") else None
    )
