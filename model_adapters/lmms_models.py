"""The models that lmms-eval loads: they think before they answer."""

from __future__ import annotations

import gc
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from lmms_eval.api.instance import GenerationResult, Instance
from lmms_eval.models.model_utils.gen_metrics import log_metrics
from lmms_eval.models.model_utils.usage_metrics import log_usage

from atomthink_plugin.api import Failure, Outcome, Result, Usage
from atomthink_plugin.config import Plan
from atomthink_plugin.formats.steps import stepwise
from atomthink_plugin.model_adapters.lmms_base import HarnessModel, constructor_arguments, show_logs
from atomthink_plugin.model_adapters.lmms_requests import (
    Requested,
    asked,
    is_padding,
    repeats,
    to_result,
)
from atomthink_plugin.model_adapters.registered_policy import RegisteredPolicy
from atomthink_plugin.named_models import plan_for, with_config_file
from atomthink_plugin.runtime.build import build, open_journal
from atomthink_plugin.runtime.progress import RunProgress
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.runtime.speed import RunMeter, RunSpeed, models_of

log = logging.getLogger(__name__)


class AtomThinkModel(HarnessModel):
    """Any image-text-to-text checkpoint of transformers. The other models are subclasses with another name.

    Args:
        batch_size: Rows of one forward pass of the policy and the scorer, or `auto`. The int 1, which is the harness's
            default, means that the user gave none.
        max_batch_size: Not used; the harness passes it to every model.
        device: Where the policy and the scorer run.
        **model_args: See `RunArguments` and the factories of the policy, the search and the scorer. `policy` names
            another registered policy, `config` a YAML file with further arguments.

    Raises:
        AtomThinkError: An argument or a checkpoint cannot be used; raised before any question is asked.
    """

    thinks: ClassVar[bool] = True
    model: ClassVar[str] = "atomthink_hf"

    def __init__(
        self,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        device: str | None = None,
        **model_args: Any,
    ) -> None:
        super().__init__()
        self._model_args = with_config_file(model_args)
        self._plan = self._planned(self._model_args, batch_size, device)
        self._loaded: Runner | None = build(self._plan)
        self._journal = ""

    @classmethod
    def check(cls, arg_string: str, additional_config: Mapping[str, Any]) -> None:
        """Raises the error that `create_from_arg_string` would raise for an argument, without loading a model."""
        show_logs()
        given = constructor_arguments(arg_string, additional_config)
        batch_size, device = given.pop("batch_size", 1), given.pop("device", None)
        given.pop("max_batch_size", None)
        cls._planned(with_config_file(given), batch_size, device)

    @classmethod
    def _planned(cls, model_args: Mapping[str, Any], batch_size: int | str, device: str | None) -> Plan:
        # The harness passes the int 1 where the user gives no batch size, and a string where they do.
        given = {"batch_size": None if batch_size == 1 else batch_size, "device": device}
        return plan_for(cls.model, model_args, {name: value for name, value in given.items() if value is not None})

    @property
    def _runner(self) -> Runner:
        """The loaded models. `clean` frees them; the next evaluation of this object loads them again."""
        if self._loaded is None:
            self._loaded = build(self._plan)
        return self._loaded

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """Thinks about all requests at the same time and returns their replies in order."""
        kept = [i for i, request in enumerate(requests) if not is_padding(request)]
        self.remember_tasks(requests)
        known_repeats, in_steps = repeats(requests), stepwise(self._runner.format)
        questions = Requested(
            [asked(requests[i], known_repeats[i], self._model_args, in_steps) for i in kept],
            self.task_dict,
            self._plan.arguments.max_pixels,
        )
        replies = [GenerationResult("")] * len(requests)  # padding's is thrown away by the harness
        for i, result in zip(kept, self._think(questions), strict=True):
            replies[i] = to_result(result, self._journal)
        return replies

    def _think(self, questions: Requested) -> list[Result]:
        """Answers the questions and reports their cost to the harness and the user."""
        journal = open_journal(self._plan, self._runner, self.name, self.rank)
        runner = replace(self._runner, journal=journal)
        self._journal = journal.folder.name if journal is not None else ""
        thinking, search = self._plan.arguments.thinking, self._plan.search_name
        label = thinking if thinking == search else f"{thinking} ({search})"
        if journal is not None:
            log.info("journal %s: %d questions are finished", journal.folder, len(journal))
        spent: list[Usage] = []
        meter = RunMeter(models_of(runner))
        try:
            with RunProgress(len(questions), label, shown=self.rank == 0) as progress:

                def finished(result: Result, cost: Usage | None) -> None:
                    progress.finished(result, cost)
                    meter.finished(result, cost)
                    if cost is not None:
                        spent.append(cost)

                results = runner.run(questions, finished)
        finally:
            if journal is not None:
                journal.close()
        self._report(results, spent, meter.speed())
        return results

    def _report(self, results: Sequence[Result], spent: Sequence[Usage], speed: RunSpeed) -> None:
        """Reports what this run spent and how many questions failed.

        Tokens and seconds leave out what an earlier run spent and the journal has; calls per question include it.
        """
        failed = [result for result in results if isinstance(result, Failure)]
        unanswered = sum(isinstance(result, Outcome) and result.answer is None for result in results)
        generated = sum(usage.generated for usage in spent)
        judged = sum(result.usage.judged for result in results) / max(len(results), 1)
        log_usage(
            self.name,
            input_tokens=sum(usage.prefilled + usage.cached for usage in spent),
            output_tokens=generated,
        )
        log_metrics(
            total_elapsed_time=speed.seconds,
            total_gen_tokens=generated,
            avg_speed=generated / speed.seconds,
            additional_metrics={
                "questions": len(results),
                "failed_questions": len(failed),
                "unanswered_questions": unanswered,
                "policy_calls": sum(result.usage.policy_calls for result in results) / max(len(results), 1),
                "score_calls": sum(result.usage.score_calls for result in results) / max(len(results), 1),
                **({"judged_tokens": judged} if judged else {}),
                **speed.flat(),
            },
        )
        for line in speed.lines():
            log.info("speed: %s", line)
        if unanswered:
            log.warning("%d of %d questions ended without a final answer", unanswered, len(results))
        if failed:
            log.error(
                "%d of %d questions failed and count as wrong; first: %s; run again to retry them",
                *(len(failed), len(results), failed[0].reason),
            )

    def clean(self) -> None:
        """Frees the models.

        Raises:
            AtomThinkError: All questions failed.
        """
        self._loaded = None
        gc.collect()
        super().clean()
        self.require_a_reply()


class AtomThinkTiny(AtomThinkModel):
    """The embedded model: nothing to download, an answer within milliseconds on a laptop."""

    model: ClassVar[str] = "atomthink_tiny"


class AtomThinkLlava(AtomThinkModel):
    """LLaVA, in the format of transformers or, as AtomThink-LLaVA1.5-7B is published, in that of LLaVA's own code."""

    model: ClassVar[str] = "atomthink_llava"


class AtomThinkLlamaVision(AtomThinkModel):
    """Llama 3.2 Vision; the default checkpoint (arXiv 2411.11930) was trained on the `atomic` format."""

    model: ClassVar[str] = "atomthink_llama_vision"


class AtomThinkQwenVL(AtomThinkModel):
    """Qwen-VL. It was not trained on atomic steps, so it continues its own turn: the `continue` format."""

    model: ClassVar[str] = "atomthink_qwen_vl"


class AtomThinkEmova(AtomThinkModel):
    """EMOVA (arXiv 2409.18042) by its `-hf` checkpoints, whose code needs `trust_remote_code=True`."""

    model: ClassVar[str] = "atomthink_emova"


class AtomThinkOpenAI(AtomThinkModel):
    """A served model, by `pretrained=` and `base_url=`; the key is OPENAI_API_KEY of the environment."""

    model: ClassVar[str] = "atomthink_openai"


class AtomThinkVllm(AtomThinkModel):
    """Any multimodal checkpoint that vLLM can run, by `pretrained=`."""

    model: ClassVar[str] = "atomthink_vllm"


class AtomThinkLmms(AtomThinkModel):
    """Another model of the harness's, by `base=`; its own arguments are `base_args:` of the `config=` file."""

    model: ClassVar[str] = "atomthink_lmms"

    def clean(self) -> None:
        """Calls the base's own clean-up."""
        if self._loaded is not None and isinstance(self._loaded.policy, RegisteredPolicy):
            self._loaded.policy.base.model.clean()
        super().clean()
