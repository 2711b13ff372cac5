"""A model that vLLM runs in this process, as a policy."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

from annotated_types import Gt, Le
from pydantic import PositiveInt

from atomthink_plugin.api import FinishReason, Prompt, Proposal, QuestionError, Sampling, Step, Usage
from atomthink_plugin.image_memo import PerImage
from atomthink_plugin.inference.batch_size import BatchSize
from atomthink_plugin.inference.context import least_tokens
from atomthink_plugin.inference.encoding import ChatText, fitted, to_rgb
from atomthink_plugin.inference.phases import phase
from atomthink_plugin.inference.preprocessors import Preprocessor, load_preprocessor
from atomthink_plugin.inference.text_samples import watched_in
from atomthink_plugin.model_adapters.vllm_engine import VllmEngine

if TYPE_CHECKING:
    from PIL.Image import Image
    from vllm import RequestOutput, SamplingParams
    from vllm.inputs import TokensPrompt
    from vllm.outputs import CompletionOutput

_FULL: Final = re.compile(r"maximum (context|model) length|max_model_len|longer than the maximum", re.IGNORECASE)

_WATCHED: Final = 20
"""Likeliest tokens among which watched tokens are looked for."""

_BLANKS: Final = 8
"""How often a sample is drawn again because a blank line before its text ended it."""


class VllmPolicy:
    """Answers prompts with vLLM's continuous batching and prefix cache.

    A prompt is sent as token ids: those of its turns, then those of each piece of the reply's beginning. The prefix
    cache thus has every prompt up to its last piece. Images are identified by a digest of their pixels and encoded
    once. Each sample is a request with its own seed: it does not depend on the other samples, as far as vLLM computes
    alike in any batch. Greedy samples of one prompt are one request.

    Args:
        engine: The running engine.
        preprocessor: The model's tokenizer and processor.
    """

    def __init__(self, engine: VllmEngine, preprocessor: Preprocessor) -> None:
        assert preprocessor.processor is not None
        self.identity = f"vllm:{preprocessor.identity} in {engine.dtype}"
        self.clock = engine.clock
        self._engine = engine
        self._tokenizer = preprocessor.tokenizer
        self._text = ChatText(preprocessor.processor, preprocessor.tokenizer)
        self._image_id: int | None = getattr(preprocessor.processor, "image_token_id", None)
        self._digest = PerImage(_digest)

    async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        """Samples `n` replies to `prompt`.

        Raises:
            QuestionError: A prompt of depth 0 leaves no room in the context, or vLLM cannot take its images.
        """
        with self.clock.active(), phase("encode"):
            encoded = self._encode(prompt)
        draws = [_draw(index, sampling) for index in range(n)]
        distinct = list(dict.fromkeys(draws))
        try:
            asked = (self._sample(encoded, _params(sampling, prompt.stops, *draw)) for draw in distinct)
            outputs = await asyncio.gather(*asked)
        except QuestionError as error:
            if prompt.depth and _FULL.search(str(error)):
                return Proposal(())
            raise
        images = len(prompt.images)
        usage = sum((self._usage(o, images) for tries in outputs for o in tries), Usage(policy_calls=n))
        last = {draw: tries[-1] for draw, tries in zip(distinct, outputs, strict=True)}
        length = len(last[distinct[0]].prompt_token_ids or ())
        if self._engine.context - length < least_tokens(sampling.max_tokens):
            if prompt.depth:
                return Proposal((), usage)
            raise QuestionError(
                f"question has {length} tokens, context is {self._engine.context}; a step needs "
                f"{least_tokens(sampling.max_tokens)} more: shorten the question, use a smaller image, or raise "
                "max_model_len="
            )
        watch = self._text.watched(sampling.watch)
        return Proposal(tuple(_step(last[draw].outputs[0], sampling.tops, watch) for draw in draws), usage)

    def _encode(self, prompt: Prompt) -> TokensPrompt:
        """Returns the prompt's ids with one id for each image, which vLLM replaces by as many as the image needs."""
        from vllm.inputs import TokensPrompt

        text = self._text.chat(prompt.messages)
        ids = self._tokenizer.encode(text, add_special_tokens=not self._text.has_bos(text))
        encoded = TokensPrompt(prompt_token_ids=[*ids, *self._text.pieces(prompt.begun)])
        images = prompt.images
        if images:
            encoded["multi_modal_data"] = {
                "image": [fitted(to_rgb(image), self._engine.most_pixels) for image in images]
            }
            encoded["multi_modal_uuids"] = {"image": [self._digest(image) for image in images]}
        return encoded

    async def _sample(self, prompt: TokensPrompt, params: SamplingParams) -> list[RequestOutput]:
        """Draws one sample: the last of the outputs that are returned.

        vLLM looks for stop strings from the first character on, but a blank line before the first visible character is
        not the end of a sample. It is drawn again with the same seed, and continues after the blank line.
        """
        outputs = [await self._engine.generate(prompt, params)]
        while _blank(outputs[-1].outputs[0]) and len(outputs) <= _BLANKS:
            params.min_tokens = len(outputs[-1].outputs[0].token_ids)
            outputs.append(await self._engine.generate(prompt, params))
        return outputs

    def _usage(self, output: RequestOutput, images: int) -> Usage:
        prompt = output.prompt_token_ids or []
        cached = output.num_cached_tokens or 0
        places = [at for at, token in enumerate(prompt) if token == self._image_id]
        new = sum(at >= cached for at in places)
        return Usage(
            generated=sum(len(one.token_ids) for one in output.outputs),
            prefilled=len(prompt) - cached,
            cached=cached,
            # An image with cached tokens was encoded with them, and vLLM keeps it beside its prefix cache.
            images=images * new // len(places) if places else images,
        )


def vllm_policy(
    pretrained: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    batch_size: BatchSize = "auto",
    max_model_len: PositiveInt | None = None,
    gpu_memory_utilization: Annotated[float, Gt(0), Le(1)] | None = None,
    tensor_parallel_size: PositiveInt = 1,
    engine: dict[str, Any] | None = None,
    chat_template: str | None = None,
    trust_remote_code: bool = False,
) -> VllmPolicy:
    """Starts vLLM in this process with any checkpoint that it runs.

    Args:
        pretrained: A local folder, or the id of a repository on the model hub.
        revision: Branch, tag or commit of the repository on the hub.
        dtype: `auto` (vLLM's choice) or a precision that vLLM knows, such as `bfloat16`.
        batch_size: Maximum sequences that are decoded at the same time. `auto` leaves it to vLLM.
        max_model_len: Maximum tokens of a sequence, prompt and reply. By default that of the checkpoint.
        gpu_memory_utilization: Share of the GPU's memory that vLLM takes. Leave room for a PRM on the same GPU. By
            default vLLM's own.
        tensor_parallel_size: Number of GPUs that share the model.
        engine: Further arguments of vLLM's engine by name, given in a `config=` file: `engine: {block_size: 32}`.
        chat_template: File with a Jinja chat template, for checkpoints without one.
        trust_remote_code: Whether to run Python code that comes with the checkpoint.

    Raises:
        AtomThinkError: The checkpoint, or vLLM itself, cannot be used here.
    """
    preprocessor = load_preprocessor(
        pretrained, images=True, revision=revision, trust_remote_code=trust_remote_code, chat_template=chat_template
    )
    given = {
        "revision": revision,
        "max_model_len": max_model_len,
        "max_num_seqs": None if batch_size == "auto" else batch_size,
        "gpu_memory_utilization": gpu_memory_utilization,
    }
    arguments: dict[str, Any] = {
        "model": os.path.expanduser(pretrained),
        "dtype": dtype,
        "trust_remote_code": trust_remote_code,
        "tensor_parallel_size": tensor_parallel_size,
        "enable_prefix_caching": True,
        "generation_config": "vllm",  # the checkpoint's own penalties would bias samples
        "max_logprobs": -1,  # as many as a search asks for
        **{name: value for name, value in given.items() if value is not None},
        **(engine or {}),
    }
    return VllmPolicy(VllmEngine(arguments), preprocessor)


def _draw(index: int, sampling: Sampling) -> tuple[float, int | None]:
    """Returns a sample's temperature and seed; greedy samples are one."""
    temperature = sampling.temperature_of(index)
    return temperature, sampling.seed_of(index) if temperature else None


def _params(sampling: Sampling, stops: tuple[str, ...], temperature: float, seed: int | None) -> SamplingParams:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        seed=seed,
        max_tokens=sampling.max_tokens,
        stop=list(stops),
        # Of the sampled token and the likeliest ones, before temperature and filters.
        logprobs=max(sampling.tops, _WATCHED if sampling.watch else 0),
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _blank(sample: CompletionOutput) -> bool:
    return isinstance(sample.stop_reason, str) and not sample.text.strip()


def _step(sample: CompletionOutput, tops: int, watch: Sequence[int]) -> Step:
    finish: FinishReason = "eos"
    if sample.finish_reason == "length":
        finish = "length"
    elif isinstance(sample.stop_reason, str):
        finish = "stop"
    ids = tuple(sample.token_ids)
    return Step(
        sample.text,
        ids,
        sample.cumulative_logprob,
        finish,
        tops=_tops(sample, tops) if tops else (),
        watched=_watched(sample, watch) if watch else (),
    )


def _watched(sample: CompletionOutput, watch: Sequence[int]) -> tuple[float, ...]:
    """Returns `Step.watched` of the tokens with these ids."""
    listed = {str(token): one.logprob for token, one in sample.logprobs[0].items()} if sample.logprobs else {}
    return watched_in(listed, [str(token) for token in watch])


def _tops(sample: CompletionOutput, count: int) -> tuple[tuple[float, ...], ...]:
    """Returns each token's log-probability and those of the `count` likeliest; vLLM gives them by id, in no order."""
    found = []
    for token, given in zip(sample.token_ids, sample.logprobs or (), strict=True):
        likeliest = sorted((one.logprob for one in given.values()), reverse=True)
        found.append((given[token].logprob, *likeliest[:count]))
    return tuple(found)


def _digest(image: Image) -> str:
    picture = to_rgb(image)
    return hashlib.blake2b(repr(picture.size).encode() + picture.tobytes(), digest_size=16).hexdigest()
