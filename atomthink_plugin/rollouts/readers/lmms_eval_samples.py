"""Samples that lmms-eval writes with `--log_samples`: `DATE_samples_TASK.jsonl`.

A question per line. Its replies are the repeats of the task; those of several runs with one reply each join as well.
`resps` has the replies as they were, and is absent where the filters of the task left them unchanged. The file has
images only where the data set has them as small files or names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from atomthink_plugin.report.verdicts import score_of
from atomthink_plugin.rollouts.readers.pictures import numbered_pictures, pictures_of
from atomthink_plugin.rollouts.readers.reader import PublishedRecord, RolloutReader
from atomthink_plugin.rollouts.readers.record_parts import option_texts, split_thought
from atomthink_plugin.rollouts.rollout_set import RolloutCandidate, RolloutSet
from atomthink_plugin.source_rows import SourceRow

_VERDICTS: Final = ("correct", "acc", "accuracy", "exact_match")
"""Metrics that are 0 or 1 for a reply."""

_MOST_IMAGES: Final = 4
"""The most images of a question that the harness writes."""


class _Sample(PublishedRecord):
    doc_id: int
    target: Any = None
    filtered_resps: Any
    resps: Any = None
    input: Any = None
    input_media: tuple[str, ...] = ()
    token_counts: tuple[Mapping[str, Any] | None, ...] | None = None


def _read(row: SourceRow) -> list[RolloutSet]:
    found = _Sample.model_validate(row.fields)
    replies = list(_texts(found.filtered_resps if found.resps is None else found.resps))
    if not replies:
        raise ValueError("resps, filtered_resps: no texts, as of tasks that compare likelihoods")
    counts = [one or {} for one in found.token_counts or ()]
    if any(one.get("status") == "failed" for one in counts):
        raise ValueError(f"the question failed: {counts[0].get('error', '')}")
    if len(found.input_media) >= _MOST_IMAGES:
        raise ValueError(f"input_media: {_MOST_IMAGES} images, the most that the file can have. Others may be missing")
    record = _record(row.fields)
    task = row.split.partition("_samples_")[2]
    pictures = pictures_of(list(found.input_media), row.folder) or numbered_pictures(str(found.doc_id), row.folder)
    return [
        RolloutSet(
            id=f"{task}/{found.doc_id}".strip("/"),
            question=_question(found.input, record),
            candidates=tuple(_candidate(text, row.fields, replies, counts, at) for at, text in enumerate(replies)),
            pictures=pictures,
            choices=option_texts(record.get("choices") or record.get("options")),
            gold=None if found.target in (None, "", "None") else str(found.target),
            subset=task,
            record=record,
            benchmark=str(row.fields.get("benchmark") or ""),
        )
    ]


def _texts(replies: Any) -> Iterator[str]:
    """Yields the replies in order: a text, a list of texts, or a list of lists of a text."""
    if isinstance(replies, str):
        yield replies
    elif isinstance(replies, list | tuple):
        for reply in replies:
            yield from _texts(reply)


def _record(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the benchmark's record, which tasks of this package and older harnesses write."""
    return next((fields[name] for name in ("question", "doc") if isinstance(fields.get(name), Mapping)), {})


def _question(asked: Any, record: Mapping[str, Any]) -> str:
    text = asked if isinstance(asked, str) else record.get("question") or record.get("problem")
    if not isinstance(text, str) or not text:
        raise ValueError("input: no text")
    return text


def _candidate(
    text: str, fields: Mapping[str, Any], replies: Sequence[str], counts: Sequence[Mapping[str, Any]], at: int
) -> RolloutCandidate:
    thought, reply = split_thought(text)
    tokens = counts[at].get("output_tokens") if len(counts) == len(replies) else None
    return RolloutCandidate(
        reply, correct=_verdict(fields) if len(replies) == 1 else None, tokens=tokens, thought=thought
    )


def _verdict(fields: Mapping[str, Any]) -> bool | None:
    """Returns the task's verdict on a single reply, None if it is neither right nor wrong. It judges several as one."""
    scores = (score_of(fields[name]) for name in _VERDICTS if name in fields)
    score = next((score for score in scores if score is not None), None)
    return bool(score) if score in (0, 1) else None


def _notes(sets: Sequence[RolloutSet]) -> list[str]:
    missing = sum(not one.pictures for one in sets)
    if not missing:
        return []
    return [
        f"{missing} of {len(sets)} questions have no image in the samples, which lmms-eval does not write for all data "
        "sets. If they have images, name a folder with them as `DOC_ID.png` with `--images`"
    ]


READER: Final = RolloutReader(frozenset({"doc_id", "target", "filtered_resps"}), _read, key=("doc_id",), notes=_notes)
