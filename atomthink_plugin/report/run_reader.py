"""A run as reports read it: an lmms-eval output folder of any model, joined with its journal if it has one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from atomthink_plugin.api import AtomThinkError, Outcome
from atomthink_plugin.formats.task_form import in_task_form
from atomthink_plugin.report.journals import Entry, Kept, find_journal, is_journal, read_journal
from atomthink_plugin.report.run_samples import Run, Sample, read_run
from atomthink_plugin.report.verdicts import Verdicts


@dataclass(frozen=True, slots=True)
class Answered:
    """One question of a run, whatever model gave the answer.

    Attributes:
        task: The task.
        doc_id: Which of its questions.
        repeat: Its number among the requests about that question.
        text: The question as asked.
        options: Its options, where the samples or the journal have them.
        target: The reference answer, None where it is not known.
        reply: The reply that was scored.
        extracted: The answer that the task's scorer found in it, None if it reports none.
        correct: The task's verdict, None if there is none. A question that failed is wrong, whatever the verdict on
            its empty reply.
        rule: The rule that gave the verdict, None if the task reports none.
        scorer: The scorer of the verdict: ours by its version, others by the metric and the version of the task.
        groups: By grouping, the categories it counts for.
        failed: Why it failed, None where it did not.
        tokens: Tokens that policies sampled, also before it failed; None if the model reports none; likewise the
            next three.
        policy_calls: Samples drawn from policies: steps, and replies to what the search asked beside the chains.
        prm_calls: Paths scored.
        seconds: The latency: from the question's first call to its outcome, with other questions in flight.
        stopped: Why the search ended.
        entry: Its record in the journal, None where there is none.
        record: The benchmark's own record of the question, empty for tasks that log none.
        benchmark: Which of our benchmarks scored it, None for any other task.
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
    entry: Entry | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    benchmark: str | None = None

    @property
    def id(self) -> tuple[str, int, int]:
        """The question's identity in all runs."""
        return self.task, self.doc_id, self.repeat

    @property
    def images(self) -> tuple[Path, ...] | None:
        """Files with the thumbnails of its images, None where no journal has kept them."""
        return None if self.entry is None else self.entry.images

    @property
    def outcome(self) -> Outcome | None:
        """The outcome with its tree, read from the journal at every call; None if it has none."""
        return None if self.entry is None else self.entry.load()


@dataclass(frozen=True, slots=True)
class Recorded:
    """A run as it was named on the command line.

    Attributes:
        name: The last part of that name.
        model: The model's name for lmms-eval.
        settings: The journal's: everything that changes results; without a journal the model arguments as typed.
        scorer: The scorer of the verdicts, None if there are none.
        tasks: The tasks it asked.
        questions: Its questions, task by task, in order.
        missing: Messages about what is missing or damaged.
        pace: Wall-clock seconds that the model took, divided by the questions; None if the run does not report it or
            was resumed.
    """

    name: str
    model: str
    settings: Mapping[str, Any]
    scorer: str | None
    tasks: tuple[str, ...]
    questions: Sequence[Answered]
    missing: Sequence[str]
    pace: float | None = None

    @property
    def latency(self) -> float | None:
        """The mean seconds from a question's first call to its outcome; None where no question has any."""
        known = [question.seconds for question in self.questions if question.seconds is not None]
        return fmean(known) if known else None

    @property
    def in_flight(self) -> float | None:
        """The mean number of questions in flight, by Little's law; None where pace or latency are not known."""
        return self.latency / self.pace if self.latency is not None and self.pace else None


def read(run: Path, journal: Path | None = None) -> Recorded:
    """Reads a run and its journal.

    Args:
        run: The folder of lmms-eval's `--output_path`, a `..._results.json` in it, or a journal's folder.
        journal: The journal's folder, or the one it lives in, where neither the run's model arguments nor the
            user's cache lead to it.

    Raises:
        AtomThinkError: There is no run, it has no samples, or `journal` has none of its trees.
    """
    if is_journal(run):
        return _trees_alone(run)
    found = read_run(run)
    folder, missing = _journal(found, run, journal)
    kept = read_journal(folder) if folder is not None else None
    joined = _Joined(kept)
    questions = []
    for task, samples in found.samples.items():
        verdicts = Verdicts(found, task)
        missing += verdicts.missing
        questions += [_answered(sample, verdicts, joined.entry(sample)) for sample in samples]
    arguments = found.results["config"].get("model_args")
    return Recorded(
        name=run.resolve().name.removesuffix("_results.json"),
        model=str(found.results["config"].get("model")),
        settings=kept.settings if kept is not None else {"model_args": arguments},
        scorer="; ".join(sorted({one.scorer for one in questions if one.scorer})) or None,
        tasks=tuple(found.samples),
        questions=questions,
        missing=[*missing, *joined.missing(questions)],
        pace=_pace(found, questions),
    )


def read_all(runs: Sequence[Path], journals: Sequence[Path]) -> list[Recorded]:
    """Reads several runs.

    Args:
        runs: See `read`.
        journals: The values of `--journal`, one for each run; empty to find them.

    Raises:
        AtomThinkError: One cannot be read, or there are more or fewer journals than runs.
    """
    if len(journals) not in (0, len(runs)):
        raise AtomThinkError(f"`--journal` was given {len(journals)} times for {len(runs)} runs: once for each, or not")
    given: Sequence[Path | None] = journals or [None] * len(runs)
    return [read(run, journal) for run, journal in zip(runs, given, strict=True)]


def _trees_alone(folder: Path) -> Recorded:
    """A journal without a run: the questions that it finished, without verdicts."""
    kept = read_journal(folder)
    # A question that failed and was asked again is finished, whichever file has that: sorting keeps the order written.
    last = sorted(kept.entries, key=lambda entry: entry.failed is None)
    latest = {(entry.task, entry.doc_id, entry.repeat): entry for entry in last}
    questions = [_unscored(latest[key]) for key in sorted(latest)]
    verdicts = "no verdicts: a journal has none; name the folder of the run's --output_path to have them"
    return Recorded(
        name=folder.resolve().name,
        model=str(kept.settings.get("policy_weights")),
        settings=kept.settings,
        scorer=None,
        tasks=tuple(dict.fromkeys(question.task for question in questions)),
        questions=questions,
        missing=[verdicts, *_torn(kept)],
    )


def _unscored(entry: Entry) -> Answered:
    return Answered(
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
        tokens=entry.usage.generated,
        policy_calls=entry.usage.policy_calls,
        prm_calls=entry.usage.score_calls,
        seconds=entry.usage.seconds,
        stopped=entry.stopped,
        entry=entry,
    )


# --- the journal of a run ------------------------------------------------------------------------


def _journal(found: Run, run: Path, given: Path | None) -> tuple[Path | None, list[str]]:
    """The journal's folder, and messages about why there is none."""
    counts = [sample.counts for samples in found.samples.values() for sample in samples]
    names = sorted({str(one["journal"]) for one in counts if one.get("journal")})
    if len(names) > 1:
        raise AtomThinkError(f"`{run}` names {len(names)} journals ({', '.join(names)}); a run has one")
    if not any("policy_calls" in one or "status" in one for one in counts):
        return None, [f"`--journal {given}` is not used: the model of this run keeps no journal"] if given else []
    name = names[0] if names else ""
    typed = dict(part.split("=", 1) for part in _typed(found) if "=" in part)
    beside = [Path(typed["journal"]).expanduser()] if "journal" in typed else []
    folder = find_journal(name, given, [*beside, found.file.parent, found.file.parent.parent])
    if folder is not None:
        return folder, []
    if name:
        return None, [f"no search trees: journal `{name}` is not where it was; name its folder with --journal"]
    return None, ["no search trees: the run kept no journal, or does not name it; name its folder with --journal"]


def _typed(found: Run) -> list[str]:
    arguments = found.results["config"].get("model_args")
    return arguments.split(",") if isinstance(arguments, str) else []


class _Joined:
    """Finds each sample's record; a question may have several: with other limits, or from before a failure."""

    def __init__(self, kept: Kept | None) -> None:
        self._kept = kept
        self._entries: dict[tuple[str, int], list[Entry]] = {}
        for entry in kept.entries if kept is not None else ():
            if entry.repeat == 0:  # the samples file has the first reply alone
                self._entries.setdefault((entry.task, entry.doc_id), []).append(entry)
        self._foreign = 0

    def entry(self, sample: Sample) -> Entry | None:
        """Returns the record that the sample's reply came from, None where there is none.

        Filters of the task may have changed the reply, so that it has to be the record's only where costs do not
        decide, or where the run does not name this journal.
        """
        known = self._entries.get((sample.task, sample.doc_id), [])
        spent = [entry for entry in known if _agree(entry, sample)]
        same = [entry for entry in spent if _replied(entry, sample)]
        if not same and sample.counts.get("journal"):
            same = spent
        if known and not same:
            self._foreign += 1
        return same[-1] if same else None

    def missing(self, questions: Sequence[Answered]) -> list[str]:
        """Returns messages about what the journal lacks."""
        if self._kept is None:
            return []
        lost = sum(question.entry is None for question in questions) - self._foreign
        words = _torn(self._kept)
        if lost:
            words.append(f"{lost} of {len(questions)} questions have no record in journal `{self._kept.folder.name}`")
        if self._foreign:
            words.append(f"the journal's records of {self._foreign} questions are of other replies")
        return words


def _agree(entry: Entry, sample: Sample) -> bool:
    counted = (sample.counts.get("output_tokens"), sample.counts.get("policy_calls"))
    spent = (entry.usage.generated, entry.usage.policy_calls)
    if sample.state == "failed":
        return entry.failed is not None and counted in (spent, (None, None))
    return entry.failed is None and counted == spent


def _replied(entry: Entry, sample: Sample) -> bool:
    return sample.reply in (entry.reply, in_task_form(entry.reply, entry.answer, entry.text))


def _torn(kept: Kept) -> list[str]:
    return [f"{kept.torn} lines of journal `{kept.folder.name}` are damaged or no records"] if kept.torn else []


# --- the samples ---------------------------------------------------------------------------------


def _answered(sample: Sample, verdicts: Verdicts, entry: Entry | None) -> Answered:
    fields, counts = sample.fields, sample.counts
    record, breakdown = _mapping(fields.get("question")), _mapping(fields.get("breakdown"))
    target, groups = fields.get("target"), _mapping(fields.get("groups") or breakdown.get("groups"))
    extracted = fields.get("extracted")
    failed = sample.state == "failed"
    usage = entry.usage if entry is not None else None
    return Answered(
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
        tokens=counts.get("output_tokens", usage and usage.generated),
        policy_calls=counts.get("policy_calls", usage and usage.policy_calls),
        prm_calls=counts.get("score_calls", usage and usage.score_calls),
        seconds=usage.seconds if usage is not None else None,
        stopped=counts.get("stopped") or None,
        entry=entry,
        record=record,
        benchmark=fields.get("benchmark"),
    )


def _text(reply: Any, entry: Entry | None) -> str:
    """The journal's text if the samples have none; some tasks log messages instead of text."""
    if isinstance(reply, str) and reply:
        return reply
    return entry.text if entry is not None else "" if reply is None else json.dumps(reply, ensure_ascii=False)


def _mapping(logged: Any) -> Mapping[str, Any]:
    """Our tasks log a mapping here; other tasks may log anything."""
    return logged if isinstance(logged, Mapping) else {}


def _pace(found: Run, questions: Sequence[Answered]) -> float | None:
    """As the model reports it; a resumed run reports only a part of its tokens."""
    measured = found.results.get("throughput") or {}
    tokens = sum(question.tokens or 0 for question in questions)
    whole = measured.get("total_gen_tokens") == tokens and tokens > 0
    return (
        float(measured["total_elapsed_time"]) / len(questions) if whole and measured.get("total_elapsed_time") else None
    )
