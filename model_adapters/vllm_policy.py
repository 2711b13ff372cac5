"""A model that vLLM runs in this process, as a policy."""

from __future__ import annotations

import hashlib
import os
import re
from collections import OrderedDict
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

from annotated_types import Gt, Le
from pydantic import PositiveInt

from atomthink_plugin.api import Prompt, Proposal, QuestionError, Sampling, Usage
from atomthink_plugin.image_memo import PerImage
from atomthink_plugin.inference.batch_size import BatchSize
from atomthink_plugin.inference.context import least_tokens
from atomthink_plugin.inference.encoding import ChatText, fitted, to_rgb
from atomthink_plugin.inference.phases import phase
from atomthink_plugin.inference.preprocessors import Preprocessor, load_preprocessor
from atomthink_plugin.inference.sampling import decode
from atomthink_plugin.inference.stop_tokens import StopTokens
from atomthink_plugin.model_adapters.vllm_engine import VllmEngine
from atomthink_plugin.model_adapters.vllm_samples import OutputReader, VllmSample
from atomthink_plugin.runtime.event_loop import together

if TYPE_CHECKING:
    from PIL.Image import Image
    from vllm import RequestOutput, SamplingParams
    from vllm.inputs import TokensPrompt

_FULL: Final = re.compile(r"maximum (context|model) length|max_model_len|longer than the maximum", re.IGNORECASE)

_WATCHED: Final = 20
"""Likeliest tokens among which watched tokens are looked for."""

_BLANKS: Final = 8
"""How often a sample is continued after a blank line before its text."""

_PART: Final = 0x9E3779B97F4A7C15
"""Added to a sample's seed for each further part of it."""

_SEEDS: Final = 2**63
"""Number of seeds."""

_CHATS: Final = 1024
"""Chats whose ids are remembered."""

_DRAWS: Final = 2
"""Version of how samples are drawn. A run does not continue with samples of another version."""

_Draw = tuple[float, int | None]
"""Temperature and seed of a sample."""


class VllmPolicy:
    """Answers prompts with vLLM's continuous batching and prefix cache.

    A prompt is sent as token ids: those of its turns, then those of each piece of the reply's beginning. The prefix
    cache thus has every prompt up to its last piece. Images are identified by a digest of their pixels and encoded
    once. A prompt is prepared once for all of its samples. Each sample is a request with its own seed: it does not
    depend on the other samples, as far as vLLM computes alike in any batch. Greedy samples of one prompt are one
    request.

    Attributes:
        logprobs: Whether steps have log-probabilities.

    Args:
        engine: The running engine.
        preprocessor: The model's tokenizer and processor.
        logprobs: As the attribute.
    """

    def __init__(self, engine: VllmEngine, preprocessor: Preprocessor, *, logprobs: bool = True) -> None:
        assert preprocessor.processor is not None
        self.identity = f"vllm:{preprocessor.identity} in {engine.dtype}, draws {_DRAWS}"
        self.clock = engine.clock
        self.logprobs = logprobs
        self._engine = engine
        self._tokenizer = preprocessor.tokenizer
        self._text = ChatText(preprocessor.processor, preprocessor.tokenizer)
        self._image_id: int | None = getattr(preprocessor.processor, "image_token_id", None)
        self._stop_tokens = StopTokens(preprocessor.tokenizer)
        self._chats: OrderedDict[str, list[int]] = OrderedDict()
        self._picture = PerImage(partial(_picture, most=engine.most_pixels))

    async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        """Samples `n` replies to `prompt`.

        Raises:
            QuestionError: A prompt of depth 0 leaves no room in the context, or vLLM cannot take its images.
        """
        draws = [_draw(index, sampling) for index in range(n)]
        distinct = list(dict.fromkeys(draws))
        try:
            samples, outputs = await self._sample(prompt, sampling, distinct)
        except QuestionError as error:
            if prompt.depth and _FULL.search(str(error)):
                return Proposal(())
            raise
        images = len(prompt.images)
        usage = sum((self._usage(output, images) for output in outputs), Usage(policy_calls=n))
        length = len(outputs[0].prompt_token_ids or ())
        if self._engine.context - length < least_tokens(sampling.max_tokens):
            if prompt.depth:
                return Proposal((), usage)
            raise QuestionError(
                f"question has {length} tokens, context is {self._engine.context}; a step needs "
                f"{least_tokens(sampling.max_tokens)} more: shorten the question, use a smaller image, or raise "
                "max_model_len="
            )
        steps = {draw: sample.step for draw, sample in zip(distinct, samples, strict=True)}
        return Proposal(tuple(steps[draw] for draw in draws), usage)

    async def _sample(
        self, prompt: Prompt, sampling: Sampling, draws: Sequence[_Draw]
    ) -> tuple[list[VllmSample], list[RequestOutput]]:
        """Returns a sample for each draw, and all of vLLM's outputs.

        vLLM looks for stop strings from the first character on, but a blank line before the first visible character is
        not the end of a sample, which then continues after the blank line.
        """
        stops = self._stop_tokens(prompt.stops)
        reader = OutputReader(prompt.stops, stops, self._decode, sampling.tops, self._text.watched(sampling.watch))
        common = {
            temperature: self._params(sampling, prompt.stops, list(stops), temperature)
            for temperature in {temperature for temperature, _ in draws}
        }
        params = [_seeded(common[temperature], seed) for temperature, seed in draws]
        with self.clock.active(), phase("encode"):
            encoded = self._encode(prompt)
        outputs = await self._engine.generate(encoded, params)
        samples = [reader.extended(VllmSample(), output.outputs[0]) for output in outputs]
        room = self._engine.context - len(outputs[0].prompt_token_ids or ())
        for more in range(1, _BLANKS + 1):
            left = [min(sampling.max_tokens, room - 1) - len(sample.ids) for sample in samples]
            begun = [at for at, sample in enumerate(samples) if not sample.ended and left[at] > 0]
            if not begun:
                break
            tasks = []
            for at in begun:
                again = _again(params[at], left[at], more)
                tasks.append(self._engine.generate(_longer(encoded, samples[at].ids), [again]))
            for at, (output,) in zip(begun, await together(*tasks), strict=True):
                outputs.append(output)
                samples[at] = reader.extended(samples[at], output.outputs[0])
        return samples, outputs

    def _encode(self, prompt: Prompt) -> TokensPrompt:
        """Returns the prompt's ids with one id for each image, which vLLM replaces by as many as the image needs."""
        from vllm.inputs import TokensPrompt

        text = self._text.chat(prompt.messages)
        encoded = TokensPrompt(prompt_token_ids=[*self._chat_ids(text), *self._text.pieces(prompt.begun)])
        pictures = [self._picture(image) for image in prompt.images]
        if pictures:
            encoded["multi_modal_data"] = {"image": [picture for picture, _ in pictures]}
            encoded["multi_modal_uuids"] = {"image": [digest for _, digest in pictures]}
        return encoded

    def _chat_ids(self, text: str) -> list[int]:
        """Returns the ids of the turns; the steps of a question share them."""
        if text not in self._chats:
            self._chats[text] = self._tokenizer.encode(text, add_special_tokens=not self._text.has_bos(text))
            if len(self._chats) > _CHATS:
                self._chats.popitem(last=False)
        return self._chats[text]

    def _decode(self, ids: Sequence[int]) -> str:
        return decode(self._tokenizer, ids)

    def _params(
        self, sampling: Sampling, stops: Sequence[str], stop_tokens: list[int], temperature: float
    ) -> SamplingParams:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        # Of the sampled token and the likeliest ones, before temperature and filters.
        likeliest = max(sampling.tops, _WATCHED if sampling.watch else 0)
        return SamplingParams(
            temperature=temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            max_tokens=sampling.max_tokens,
            stop=list(stops),
            # vLLM's engine sees these at once, strings only after its front end has read the text.
            stop_token_ids=stop_tokens,
            logprobs=likeliest if likeliest or self.logprobs else None,
            flat_logprobs=True,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

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
    logprobs: bool = True,
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
        logprobs: Whether to ask for log-probabilities, which `scorer=confidence` needs. Without them, ties go to
            whichever was first, and pages show no probabilities. vLLM is faster, most of all with a small model.
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
        "disable_log_stats": True,  # vLLM would count every token of every step for its own log
        **{name: value for name, value in given.items() if value is not None},
        **(engine or {}),
    }
    return VllmPolicy(VllmEngine(arguments), preprocessor, logprobs=logprobs)


def vllm_seed(sampling: Sampling, index: int) -> int:
    """Returns the seed of sample `first + index`.

    The seeds of a node follow one another, as those of the samples of one request do in vLLM: a request for all of
    them with `n` draws the same samples.
    """
    return (replace(sampling, first=0).seed_of(0) + sampling.first + index) % _SEEDS


def _draw(index: int, sampling: Sampling) -> _Draw:
    """Returns a sample's temperature and seed; greedy samples are one."""
    temperature = sampling.temperature_of(index)
    return temperature, vllm_seed(sampling, index) if temperature else None


def _seeded(params: SamplingParams, seed: int | None) -> SamplingParams:
    seeded = copy(params)
    seeded.seed = seed
    return seeded


def _again(params: SamplingParams, max_tokens: int, more: int) -> SamplingParams:
    """Returns the parameters of the rest of a sample, with another seed for each further part of it."""
    again = _seeded(params, None if params.seed is None else (params.seed + more * _PART) % _SEEDS)
    again.max_tokens = max_tokens
    return again


def _longer(prompt: TokensPrompt, ids: Sequence[int]) -> TokensPrompt:
    longer = prompt.copy()
    longer["prompt_token_ids"] = [*prompt["prompt_token_ids"], *ids]
    return longer


def _picture(image: Image, most: int | None) -> tuple[Image, str]:
    """Returns an image as vLLM gets it, of `most` pixels at most, and a digest of it."""
    picture = fitted(to_rgb(image), most)
    digest = hashlib.blake2b(repr(picture.size).encode() + picture.tobytes(), digest_size=16)
    return picture, digest.hexdigest()
