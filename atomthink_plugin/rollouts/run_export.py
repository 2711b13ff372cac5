"""Writes scored candidates as a run that `atomthink view` and `atomthink compare` read."""

from __future__ import annotations

import json
import math
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any, Final

from atomthink_plugin.api import Aggregate, AtomThinkError, Outcome, Path, Question, Rollout, Step, Usage
from atomthink_plugin.formats.steps import ATOMIC_STEP
from atomthink_plugin.rollouts.candidate_scores import CandidateScores, ScoresOrReason
from atomthink_plugin.rollouts.rollout_set import RolloutCandidate, RolloutSet
from atomthink_plugin.rollouts.score_file import candidate_digest
from atomthink_plugin.runtime.journal import Journal
from atomthink_plugin.runtime.nodes import NodeTable
from atomthink_plugin.searches.parts.aggregates import AGGREGATES

_MODEL: Final = "atomthink score"
"""The model in the results of such a run, which tells it from other files."""

_TASK: Final = "candidates"


def run_folder(folder: FilePath, prm: str) -> FilePath:
    """Returns the folder of the run of one PRM.

    Raises:
        AtomThinkError: It has other files.
    """
    found = folder / (re.sub(r"[^\w.-]+", "-", prm).strip("-.") or "prm")
    if found.exists() and any(found.iterdir()) and not _is_own(found):
        raise AtomThinkError(f"`--run {folder}`: {found} has files that are not a run of this command. Choose another")
    return found


def _is_own(folder: FilePath) -> bool:
    return any(f'"{_MODEL}"' in file.read_text(encoding="utf-8") for file in folder.glob("*_results.json"))


def write_run(
    folder: FilePath, sets: Sequence[RolloutSet], scores: CandidateScores, aggregate: Aggregate, scorer: str
) -> None:
    """Writes best-of-N with one PRM: its results and samples as lmms-eval writes them, and the journal with the trees.

    Candidates are paths of a tree, with their step scores. Of several candidates with the highest value, the one whose
    digest is the smallest is shown as chosen, so that the order of the file decides nothing.

    Args:
        folder: The run's folder, see `run_folder`. An earlier run in it is replaced.
        sets: The questions. All candidates have steps and verdicts.
        scores: The scores of their steps.
        aggregate: What ranks the candidates.
        scorer: The judge of the candidates.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    policies = sorted({one.policy for one in sets if one.policy})
    settings = {
        "thinking": "slow",
        "search": {"name": "best_of_n", "aggregate": aggregate, "n": max(len(one.candidates) for one in sets)},
        "policy_weights": ", ".join(policies) or "unknown",
        "scorer": {"kind": "scores", "prm": scores.prm},
        "scorer_weights": scores.prm,
    }
    samples = []
    with closing(Journal(folder, "run", settings, argument="`--run DIR`")) as journal:
        for doc_id, (asked, own) in enumerate(zip(sets, scores.scores, strict=True)):
            chosen = _chosen(asked.candidates, own, aggregate)
            reasons = scores.reasons[doc_id] if scores.reasons else [()] * len(own)
            outcome = _outcome(asked, own, reasons, chosen, aggregate)
            question = asked.engine_question()
            name = f"{_TASK}/{aggregate}/{doc_id}/0"
            journal.put(Question(name, question.messages, question.choices), outcome)
            samples.append(_sample(doc_id, asked, asked.candidates[chosen], outcome, journal.folder.name, scorer))
    date = time.strftime("%Y%m%d_%H%M%S")
    lines = "".join(json.dumps(sample, ensure_ascii=False, default=str) + "\n" for sample in samples)
    (folder / f"{date}_samples_{_TASK}.jsonl").write_bytes(lines.encode("utf-8", "replace"))
    (folder / f"{date}_results.json").write_text(json.dumps(_results(len(samples), scores.prm)), encoding="utf-8")


def _chosen(candidates: Sequence[RolloutCandidate], scores: Sequence[ScoresOrReason], aggregate: Aggregate) -> int:
    """Returns the index of the candidate with the highest value."""

    def rank(i: int) -> tuple[float, str]:
        found = scores[i]
        value = -math.inf if isinstance(found, str) else AGGREGATES[aggregate](found)
        return -value, candidate_digest((candidates[i].text, *(candidates[i].steps or ())))

    return min(range(len(candidates)), key=rank)


def _outcome(
    asked: RolloutSet,
    scores: Sequence[ScoresOrReason],
    reasons: Sequence[Sequence[str]],
    chosen: int,
    aggregate: Aggregate,
) -> Outcome:
    nodes = NodeTable()
    ends = []
    root = Path(Question(asked.id, ()))
    for candidate, found, critiques in zip(asked.candidates, scores, reasons, strict=True):
        path, texts = root, candidate.steps or ("",)
        for at, text in enumerate(texts):
            last = at == len(texts) - 1
            path = path.extend(Step(text), candidate.stated_answer() if last else None)
            nodes.enter(path, ATOMIC_STEP)
            if not isinstance(found, str):
                nodes.score(path.key, found[at], critiques[at] if critiques else "")
        if isinstance(found, str):
            nodes.reject(path.key, f"not scored: {found}")
        ends.append(path.key)
    best, own = asked.candidates[chosen], scores[chosen]
    answer = best.stated_answer()
    counted = [found for found in scores if not isinstance(found, str)]
    return Outcome(
        text=best.text,
        answer=answer,
        steps=best.steps or ("",),
        scores=(None,) * len(best.steps or ("",)) if isinstance(own, str) else tuple(own),
        value=0.0 if isinstance(own, str) else AGGREGATES[aggregate](own),
        stopped="length" if answer is None else "final",
        usage=Usage(
            policy_calls=len(asked.candidates),
            score_calls=sum(map(len, counted)),
            generated=sum(one.tokens or 0 for one in asked.candidates),
        ),
        # A search counts what it cannot score as 0; here, it has no score.
        nodes=tuple(node if node.rejected is None else replace(node, score=None) for node in nodes.finished()),
        rollouts=tuple(
            Rollout(end, _mean_logprob(one), one.tokens or 0, 0.0)
            for end, one in zip(ends, asked.candidates, strict=True)
        ),
    )


def _mean_logprob(candidate: RolloutCandidate) -> float | None:
    return candidate.logprob / candidate.tokens if candidate.logprob is not None and candidate.tokens else None


def _sample(
    doc_id: int, asked: RolloutSet, chosen: RolloutCandidate, outcome: Outcome, journal: str, scorer: str
) -> dict[str, Any]:
    counts = {
        "output_tokens": outcome.usage.generated,
        "policy_calls": outcome.usage.policy_calls,
        "score_calls": outcome.usage.score_calls,
        "stopped": outcome.stopped,
        "status": "answered",
        "journal": journal,
    }
    return {
        "doc_id": doc_id,
        "doc": {"id": asked.id},
        "target": asked.gold or "",
        "input": asked.question,
        "question": {"choices": list(asked.choices)},
        "groups": {"subset": [asked.subset]} if asked.subset else {},
        "resps": [[one.text] for one in asked.candidates],
        "filtered_resps": [chosen.text],
        "token_counts": [counts],
        "scorer": scorer,
        "acc": float(bool(chosen.correct)),
    }


def _results(count: int, prm: str) -> Mapping[str, Any]:
    return {
        "config": {"model": _MODEL, "model_args": f"prm={prm}"},
        "results": {_TASK: {}},
        "higher_is_better": {_TASK: {"acc": True}},
        "versions": {_TASK: 1.0},
        "n-samples": {_TASK: {"original": count, "effective": count}},
    }
