"""A process reward model (PRM) as a critic: a model of lmms-eval that scores the steps in a task's documents."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from lmms_eval.api.instance import GenerationResult, Instance
from lmms_eval.models.model_utils.gen_metrics import log_metrics
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from atomthink_plugin.api import AtomThinkError, Scorer
from atomthink_plugin.config import scorer_plan
from atomthink_plugin.exits import no_exit
from atomthink_plugin.model_adapters.lmms_base import HarnessModel, constructor_arguments, show_logs
from atomthink_plugin.model_adapters.lmms_requests import ThoughtCounts, is_padding, task_of
from atomthink_plugin.named_models import with_config_file
from atomthink_plugin.plugins.arguments import NUMBERS_AS_TEXT
from atomthink_plugin.runtime.build import journal_folder
from atomthink_plugin.runtime.solution_scores import CONCURRENCY, GivenSolution, ScoreFile, StepScores, score_solutions
from atomthink_plugin.runtime.speed import RunMeter, RunSpeed
from atomthink_plugin.scorer_plans import ScorerPlan
from atomthink_plugin.scorers.published_threshold import published_threshold
from atomthink_plugin.step_metrics.judged_steps import Threshold

log = logging.getLogger(__name__)

_SHARED: Final = ("batch_size", "device")
"""The harness's own options, which the scorer takes where it has them."""


class CriticArguments(BaseModel):
    """Arguments of `atomthink_prm` that are not the scorer's."""

    model_config = NUMBERS_AS_TEXT | ConfigDict(extra="forbid", use_attribute_docstrings=True)

    threshold: float | None = Field(None, ge=0, le=1)
    """Steps with a lower score are judged wrong. The default is the PRM's published threshold, else 0.5."""

    strict: bool | None = None
    """Whether a step with a score at the threshold is judged wrong. The default is as published, else no."""

    concurrency: int = Field(CONCURRENCY, ge=1)
    """Solutions that are scored at the same time."""

    journal: str | None = None
    """Folder in which scores are kept; a run that is started again continues from there. By default
    `atomthink/journal` in the user's cache. `off` keeps nothing."""


@dataclass(frozen=True, slots=True)
class CriticPlan:
    """A checked run: the scorer, and the other arguments."""

    scorer: ScorerPlan
    arguments: CriticArguments


class AtomThinkPrm(HarnessModel):
    """Scores the steps in the documents of ProcessBench, VisualProcessBench and PRMBench with a PRM.

    A reply is a JSON object with `scores`, `threshold` and `strict`, which these tasks read as they read the reply of a
    prompted model.

    Args:
        batch_size: Rows of one forward pass. The int 1, which is the harness's default, means that the user gave none.
        max_batch_size: Not used; the harness passes it to every model.
        device: Where the scorer runs.
        **model_args: `prm`, `scorer` and the scorer's own arguments, and those of `CriticArguments`. `config` names a
            YAML file with further arguments.

    Raises:
        AtomThinkError: An argument or the checkpoint cannot be used.
    """

    model: ClassVar[str] = "atomthink_prm"

    def __init__(
        self,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        device: str | None = None,
        **model_args: Any,
    ) -> None:
        super().__init__()
        self._plan = _planned(model_args, batch_size, device)
        self._loaded: Scorer | None = self._scorer()

    @classmethod
    def check(cls, arg_string: str, additional_config: Mapping[str, Any]) -> None:
        """Raises the error that `create_from_arg_string` would raise for an argument, without loading a model."""
        show_logs()
        given = constructor_arguments(arg_string, additional_config)
        batch_size, device = given.pop("batch_size", 1), given.pop("device", None)
        given.pop("max_batch_size", None)
        _planned(given, batch_size, device)

    def _scorer(self) -> Scorer:
        """Returns the scorer. `clean` frees it; the next evaluation of this object loads it again."""
        with no_exit(f"the scorer {self._plan.scorer.kind!r}"):
            return self._plan.scorer.make()

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """Scores the steps of all documents and returns the scores as replies, in order.

        Raises:
            AtomThinkError: A task has no steps to score.
        """
        kept = [request for request in requests if not is_padding(request)]
        for task in dict.fromkeys(map(task_of, kept)):
            _require_steps(task)
        self.remember_tasks(kept)
        self._loaded = scorer = self._loaded or self._scorer()
        solutions = {self._key(request): self._solution(request) for request in kept}  # repeats have the same scores
        meter = RunMeter({"prm": scorer})
        with self._score_file(scorer) as file:
            scores = score_solutions(
                list(solutions.values()),
                scorer,
                file,
                "atomthink_prm",
                concurrency=self._plan.arguments.concurrency,
                shown=self.rank == 0,
            )
        _report(scores, meter.speed())
        threshold = self._threshold(scorer)
        replies = dict(zip(solutions, (_reply(found, threshold) for found in scores), strict=True))
        padding = GenerationResult("")  # the harness throws it away
        return [padding if is_padding(request) else replies[self._key(request)] for request in requests]

    def _threshold(self, scorer: Scorer) -> Threshold:
        published, given = published_threshold(scorer), self._plan.arguments
        return Threshold(
            published.value if given.threshold is None else given.threshold,
            published.strict if given.strict is None else given.strict,
        )

    @staticmethod
    def _key(request: Instance) -> tuple[Any, ...]:
        key: tuple[Any, ...] = request.args[3:6]
        return key

    def _solution(self, request: Instance) -> GivenSolution:
        doc_id, task, split = self._key(request)
        doc = self.task_dict[task][split][doc_id]
        pictures = tuple(Path(name) for name in doc["images"])
        return GivenSolution(f"{task}/{split}/{doc_id}", doc["question"], tuple(doc["steps"]), pictures)

    @contextmanager
    def _score_file(self, scorer: Scorer) -> Iterator[ScoreFile | None]:
        """Opens the file that keeps scores, named by what determines them; None for `journal=off`."""
        folder = journal_folder(self._plan.arguments.journal)
        if folder is None:
            yield None
            return
        identity = {**self._plan.scorer.identity, "weights": scorer.identity}
        digest = hashlib.blake2b(json.dumps(identity, default=str, sort_keys=True).encode(), digest_size=6).hexdigest()
        file = folder / f"{self.name}-{digest}" / f"scores_rank{self.rank}.jsonl"
        log.info("scores are kept in %s", file)
        with closing(ScoreFile(file, identity, "journal=")) as scores:
            yield scores

    def clean(self) -> None:
        """Frees the scorer.

        Raises:
            AtomThinkError: No document could be scored.
        """
        self._loaded = None
        gc.collect()
        super().clean()
        self.require_a_reply()


def _planned(model_args: Mapping[str, Any], batch_size: int | str, device: str | None) -> CriticPlan:
    """Checks all arguments.

    Raises:
        AtomThinkError: Names the argument, the value, and what is valid.
    """
    typed = with_config_file(model_args)
    own = {name: typed.pop(name) for name in CriticArguments.model_fields if name in typed}
    if typed.get("prm") is None and typed.get("scorer") is None:
        raise AtomThinkError("`--model atomthink_prm` scores with a process reward model: name one with `prm=`")
    try:
        arguments = CriticArguments.model_validate(own)
    except ValidationError as error:
        faults = [f"`{'.'.join(map(str, e['loc']))}={e['input']}`: {e['msg']}" for e in error.errors()]
        raise AtomThinkError("; ".join(faults)) from None
    # The harness passes the int 1 where the user gives no batch size, and a string where they do.
    options = {"batch_size": None if batch_size == 1 else batch_size, "device": device}
    shared = {f"prm_{name}": options[name] for name in _SHARED if options[name] is not None}
    return CriticPlan(scorer_plan(typed, shared), arguments)


def _require_steps(task: Any) -> None:
    """Raises AtomThinkError if a task's documents are no solutions: its metadata then has no `critic_of`."""
    config = getattr(task, "config", None)
    metadata = getattr(config, "metadata", None)
    if not isinstance(metadata, Mapping) or "critic_of" not in metadata:
        name = getattr(config, "task", None) or "of these requests"
        raise AtomThinkError(
            f"`--model atomthink_prm` scores given steps, and the documents of the task `{name}` have none: pass "
            "`--tasks processbench`, `visualprocessbench` or `prmbench`. To search with this PRM on other tasks, pass "
            "`--model atomthink_hf --model_args pretrained=MODEL,thinking=slow,search=beam,prm=PRM`"
        )


def _reply(scores: StepScores, threshold: Threshold) -> GenerationResult:
    """Returns the reply with a solution's scores; without scores it has no text, but its reason."""
    if isinstance(scores, str):
        return GenerationResult("", ThoughtCounts(status="failed", error=scores))
    said = {"scores": scores, "threshold": threshold.value, "strict": threshold.strict}
    counts = ThoughtCounts(score_calls=len(scores), steps=len(scores), step_scores=scores)
    return GenerationResult(json.dumps(said), counts)


def _report(scores: Sequence[StepScores], speed: RunSpeed) -> None:
    """Reports to the harness and the user how many solutions there are, and how many could not be scored."""
    failed = [found for found in scores if isinstance(found, str)]
    log_metrics(
        total_elapsed_time=speed.seconds,
        total_gen_tokens=0,
        avg_speed=0.0,
        additional_metrics={
            "questions": len(scores),
            "failed_questions": len(failed),
            "score_calls": sum(len(found) for found in scores if not isinstance(found, str)) / max(len(scores), 1),
            **speed.flat(),
        },
    )
    for line in speed.lines():
        log.info("speed: %s", line)
    if failed:
        log.error("%d of %d solutions cannot be scored; the first: %s", len(failed), len(scores), failed[0])
