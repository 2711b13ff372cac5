"""Generation of a batch by a model in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from transformers import GenerationMixin, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.inference.checkpoints import Checkpoint, end_ids
from atomthink_plugin.inference.encoding import Encoding, collate
from atomthink_plugin.inference.phases import forward_pass, phase
from atomthink_plugin.inference.sampling import Completion, Draw, GumbelProcessor, StepEnd, complete


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One sample of one prompt."""

    prompt: Encoding
    draw: Draw


@dataclass(frozen=True, slots=True)
class GenerationOutput:
    """What was generated for one request, and its share of the work.

    Attributes:
        completion: The text and its tokens.
        prefilled: Prompt tokens that went through the model for it.
        cached: Prompt tokens whose keys and values were in the cache.
        images: Images encoded for it.
    """

    completion: Completion
    prefilled: int
    cached: int
    images: int


class Decoder(Protocol):
    """Generates for requests whose prompts have one structure; results are in their order."""

    def generate(self, rows: Sequence[GenerationRequest]) -> list[GenerationOutput]:
        """Generates all rows in one batch."""
        ...


class PrefillDecoder:
    """Reads every row's whole prompt, images included, with transformers' own `generate`.

    Works for every model that generates; what `ForkingDecoder` is tested against.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._ends = end_ids(checkpoint)
        # Not passed to `generate`: some models give it to an inner one themselves.
        checkpoint.model.generation_config.pad_token_id = checkpoint.pad_id

    def generate(self, rows: Sequence[GenerationRequest]) -> list[GenerationOutput]:
        """Generates all rows in one batch.

        Raises:
            AtomThinkError: The model's `generate` does not return the prompt, so where its reply begins is not known.
        """
        draws = [row.draw for row in rows]
        inputs = collate([row.prompt for row in rows], self._checkpoint, "left")
        given = inputs["input_ids"].clone()  # some models write into theirs
        prompt = given.shape[1]
        tokenizer = self._checkpoint.tokenizer
        sampler = GumbelProcessor(draws, prompt, self._checkpoint.device)
        end = StepEnd(draws, tokenizer, prompt)
        model: Any = self._checkpoint.model  # the base class's type does not name the mixin that generates
        with phase("prefill"):  # the sampler begins the phase `decode` at the first token
            forward_pass(len(rows), sum(row.prompt.length for row in rows))
            output = generated(model, inputs, max(draw.max_tokens for draw in draws), sampler, [end])
        with phase("device"):
            ids = reply_ids(model, output, given).tolist()
            logprobs = sampler.logprobs.tolist()
        with phase("ends"):
            replies = [
                GenerationOutput(
                    complete(ids[at][: end.length(at)], logprobs[at], row.draw, tokenizer, self._ends, row.prompt.said),
                    prefilled=row.prompt.length,
                    cached=0,
                    images=row.prompt.images,
                )
                for at, row in enumerate(rows)
            ]
        with phase("decode"):
            for step in range(1, len(ids[0])):
                forward_pass(len(rows), sum(reply.completion.generated > step for reply in replies))
        return replies


def generated(
    model: Any,
    inputs: Mapping[str, Any],
    tokens: int,
    processor: LogitsProcessor,
    stops: Sequence[StoppingCriteria] = (),
) -> torch.Tensor:
    """Returns what a model's `generate` returns.

    Args:
        model: The model.
        inputs: Its inputs.
        tokens: New tokens at most.
        processor: Changes or records the logits of each token.
        stops: Criteria that end rows.
    """
    # Janus drops the processors, and does nothing else of its own where it writes text.
    call = partial(GenerationMixin.generate, model) if model.config.model_type == "janus" else model.generate
    output: torch.Tensor = call(
        **inputs,
        max_new_tokens=tokens,
        logits_processor=LogitsProcessorList([processor]),
        stopping_criteria=StoppingCriteriaList(stops),
    )
    return output


def reply_ids(model: Any, output: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """Returns what `generate` put after its prompts, `[rows, tokens]`.

    Args:
        model: The model, for the message.
        output: What its `generate` returned.
        given: The ids it was given.

    Raises:
        AtomThinkError: The output lacks the prompts, so that the beginning of the replies is unknown.
    """
    if not torch.equal(output[:, : given.shape[1]], given):
        raise AtomThinkError(
            f"`generate` of {type(model).__name__} does not return the prompt before the reply, so it cannot continue "
            "steps: name a checkpoint of another architecture"
        )
    return output[:, given.shape[1] :]
