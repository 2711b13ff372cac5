"""Any image-text-to-text checkpoint of transformers as a policy."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Final, Literal

from pydantic import NonNegativeFloat
from transformers import __version__ as transformers_version

from atomthink_plugin.api import AtomThinkError, Prompt, Proposal, QuestionError, Sampling, Step, Usage
from atomthink_plugin.inference.batch_size import BatchSize, batch_limit
from atomthink_plugin.inference.checkpoint_files import first_line
from atomthink_plugin.inference.checkpoints import Checkpoint, load_multimodal
from atomthink_plugin.inference.context import least_tokens
from atomthink_plugin.inference.decoding import Decoder, GenerationOutput, GenerationRequest, PrefillDecoder
from atomthink_plugin.inference.embedding import mean_states
from atomthink_plugin.inference.encoding import Encoder, Encoding, group
from atomthink_plugin.inference.forking import ForkingDecoder
from atomthink_plugin.inference.forward_passes import forward_passes
from atomthink_plugin.inference.gpu_memory import GpuMemory, row_limit, with_share
from atomthink_plugin.inference.model_calls import CannotForkError, layer_kinds
from atomthink_plugin.inference.phases import PhaseClock, phase
from atomthink_plugin.inference.policy_trial import Trial, first_fault, trials
from atomthink_plugin.inference.prefix_cache.reader import CACHE_GIB
from atomthink_plugin.inference.sampling import Completion, Draw
from atomthink_plugin.inference.trial import reason_of
from atomthink_plugin.runtime.batcher import MicroBatcher
from atomthink_plugin.runtime.model_thread import model_thread
from atomthink_plugin.runtime.slot_scheduler import SlotScheduler

log = logging.getLogger(__name__)

Decoding = Literal["slots", "forking", "prefill", "prefill in single rows"]
"""How a policy generates, see `TransformersPolicy`."""

_ALONE: Final = {"minimax_m3_sparse", "compressed_sparse_attention", "heavily_compressed_attention", "longrope"}
"""Layers that need a pass for each row. The first three choose blocks of tokens, counted from the first place of a row:
padding moves them in long prompts."""


class TransformersPolicy:
    """Answers prompts with a checkpoint in this process, batched over all calls that wait.

    The tokens of a sample depend on its prompt and its seed alone, not on the other samples in the batch. Images and
    prompts are prefilled once, and all samples, beams and later steps share their keys and values. Models differ in
    what they allow; see `decoding`.

    Attributes:
        identity: Of the checkpoint.
        clock: Measures the work.
        decoding: How samples are generated: `slots` (samples join and leave a running batch at any step, and attend to
            shared prefixes once), `forking` (in one batch after the other, each sample with a copy of its prompt's keys
            and values), `prefill` (in batches that prefill every prompt in full), or `prefill in single rows` (where
            padding changes a model's reply). Each falls back to the next one, and a warning says why.

    Args:
        checkpoint: The loaded model; several policies may share it.
        batch_size: Samples in one batch at most; `auto` for as many as fit, see
            `atomthink_plugin.inference.batch_size`.
        cache_gib: GiB of keys and values kept between batches; 0 prefills every prompt in full.
        encoder: Makes the model's inputs, for processors that are not called as most are.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        batch_size: BatchSize = "auto",
        cache_gib: float = CACHE_GIB,
        encoder: Encoder | None = None,
    ) -> None:
        self.identity = checkpoint.identity
        self.clock = PhaseClock()
        self._checkpoint = checkpoint
        self._encoder = encoder or Encoder(checkpoint)
        self._trials: list[Trial] = []
        self._failed: frozenset[bool] = frozenset()
        self._kept = int(cache_gib * 2**30)
        self._limit = batch_limit(batch_size, checkpoint, cache_gib)
        self._plain: Decoder = PrefillDecoder(checkpoint)
        self._decoder: Decoder = self._plain
        self.decoding: Decoding = "prefill"
        if cache_gib > 0:
            self.decoding = "slots"
            try:
                self._decoder = SlotScheduler(
                    checkpoint, self._kept, row_limit(batch_size, checkpoint, cache_gib), clock=self.clock
                )
            except CannotForkError as error:
                self._fall_back("slots", str(error))
        self._batcher: MicroBatcher[GenerationRequest, GenerationOutput] = MicroBatcher(
            self._generate, self._limit, model_thread(checkpoint.device)
        )
        self._embedder: MicroBatcher[Encoding, list[float]] = MicroBatcher(
            partial(mean_states, checkpoint), self._limit, model_thread(checkpoint.device)
        )

    def check(self) -> None:
        """Compares a few tokens with the model's own `generate`, alone and beside a longer prompt, and falls back.

        To be called once, before the first prompt.

        Raises:
            Exception: What the model or its processor raised, if it answers prompts neither with nor without images.
        """
        log.info("trying %s on a few prompts", self.identity)
        with forward_passes(self._checkpoint):
            self._trials, self._failed = trials(self._checkpoint, self._encoder)
            self._compare()

    @property
    def max_rows(self) -> int:
        """Rows of a forward pass at most. Running out of memory lowers it."""
        return self._decoder.max_rows if isinstance(self._decoder, SlotScheduler) else self._batcher.max_batch

    async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        """Samples `n` replies to `prompt`.

        Greedy samples of one prompt are one text, generated once.

        Raises:
            QuestionError: A prompt of depth 0 leaves no room in the context, an image is broken, or the model fails.
        """
        with self.clock.active(), phase("encode"):
            encoding = self._encoder.encode(prompt)
        room = least_tokens(sampling.max_tokens)
        limit = self._encoder.fit(encoding, sampling.max_tokens)
        if limit < room:
            if prompt.depth:
                return Proposal(())
            raise self._encoder.too_long(encoding, room)
        watch = self._encoder.watched(sampling.watch)
        draws = [_draw(index, sampling, limit, prompt.stops, watch) for index in range(n)]
        distinct = list(dict.fromkeys(draws))
        replies = await asyncio.gather(
            *(self._reply(GenerationRequest(encoding, draw), prompt.depth) for draw in distinct)
        )
        reply_of = dict(zip(distinct, replies, strict=True))
        usage = Usage(
            policy_calls=n,
            generated=sum(reply.completion.generated for reply in replies),
            prefilled=sum(reply.prefilled for reply in replies),
            cached=sum(reply.cached for reply in replies),
            images=sum(reply.images for reply in replies),
        )
        return Proposal(tuple(_step(reply_of[draw].completion) for draw in draws), usage)

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Returns the mean of the model's last hidden states over the tokens of each text.

        Raises:
            QuestionError: The model fails.
        """
        try:
            return await asyncio.gather(*(self._embedder.submit(self._encoder.text(text)) for text in texts))
        except Exception as error:
            raise QuestionError(f"{self.identity} cannot embed a text: {reason_of(error)}") from error

    async def _reply(self, row: GenerationRequest, urgency: int) -> GenerationOutput:
        try:
            return await self._generated(row, urgency)
        except Exception as error:
            raise QuestionError(
                f"{self.identity} fails at this question ({row.prompt.images} images, {row.prompt.length} tokens): "
                f"{reason_of(error)}{self._advice(row.prompt.images)}"
            ) from error

    def _advice(self, images: int) -> str:
        """Returns what to do about a question with so many images, if their number may be why the model fails."""
        if (images > 0) in self._failed:
            kind = "with an image" if images == 0 else "without images"
            return (
                f". It failed at such a question when it was loaded: ask questions {kind}, or name another checkpoint"
            )
        if images > 1:
            return ". It may read one image only: ask about one, or name another checkpoint"
        return ""

    async def _generated(self, row: GenerationRequest, urgency: int) -> GenerationOutput:
        if isinstance(self._decoder, SlotScheduler) and self._compared(row):
            try:
                return await self._decoder.submit(row, urgency)
            except CannotForkError as error:
                with forward_passes(self._checkpoint):
                    self._fall_back("slots", str(error))
        return await self._batcher.submit(row, urgency)

    def _generate(self, rows: Sequence[GenerationRequest]) -> list[GenerationOutput]:
        """Generates in as few batches as the prompts' shapes allow; results are in the order of the requests."""
        replies: dict[int, GenerationOutput] = {}
        with forward_passes(self._checkpoint), self.clock.active():
            for indices in group([row.prompt for row in rows]):
                batch = self._batch([rows[index] for index in indices])
                replies.update(zip(indices, batch, strict=True))
        return [replies[index] for index in range(len(rows))]

    def _batch(self, rows: Sequence[GenerationRequest]) -> list[GenerationOutput]:
        if self.decoding == "prefill in single rows" or not self._compared(rows[0]):
            return [reply for row in rows for reply in self._plain.generate([row])]
        try:
            return self._decoder.generate(rows)
        except CannotForkError as error:
            self._fall_back("forking", str(error))
            return self._batch(rows)

    def _compared(self, row: GenerationRequest) -> bool:
        """Whether `generate` answered such prompts in the trial: a forward pass may ignore images that it refuses."""
        return (row.prompt.images > 0) not in self._failed

    def _compare(self) -> None:
        """Compares the decoder with plain `generate`, and falls back until it agrees."""
        kinds = layer_kinds(self._checkpoint.config.get_text_config())
        alone = sorted(_ALONE & kinds) if self.decoding == "prefill" else []
        fault = f"it has layers of {', '.join(alone)}" if alone else first_fault(self._trials, self._decoder)
        if fault is not None:
            self._fall_back(self.decoding, fault)
        elif isinstance(self._decoder, (SlotScheduler, ForkingDecoder)):
            self._decoder.forget()

    def _fall_back(self, failed: Decoding, reason: str) -> None:
        """Replaces a way of decoding that does not work for this model by the next one, once."""
        if failed != self.decoding:
            return  # another request was first
        if failed == "slots":
            log.info("%s does not run in slots (%s): its KV caches are forked", self.identity, reason)
            try:
                self._decoder, self.decoding = ForkingDecoder(self._checkpoint, self._kept), "forking"
            except CannotForkError as error:
                self._decoder, self.decoding = self._plain, "forking"
                self._fall_back("forking", str(error))
                return
        elif failed == "forking":
            log.warning(
                "the KV cache of %s cannot be forked (%s): every prompt is prefilled in full", self.identity, reason
            )
            self._decoder, self.decoding = self._plain, "prefill"
        else:
            log.warning(
                "%s cannot be asked in batches (%s): each sample has its own forward pass", self.identity, reason
            )
            self.decoding = "prefill in single rows"
            return
        self._compare()


def transformers_policy(
    pretrained: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    batch_size: BatchSize = "auto",
    cache_gib: NonNegativeFloat = CACHE_GIB,
    gpu_memory: GpuMemory = None,
    chat_template: str | None = None,
    attn_implementation: str | None = None,
    trust_remote_code: bool = False,
) -> TransformersPolicy:
    """Loads any decoder-only checkpoint that transformers knows as `AutoModelForImageTextToText`.

    Args:
        pretrained: A local folder, or the id of a repository on the model hub.
        revision: Branch, tag or commit of the repository on the hub.
        dtype: `auto` (the checkpoint's own precision on an accelerator, float32 on a CPU), `float32`, `bfloat16` or
            `float16`.
        device: `auto` (CUDA, else MPS, else CPU) or a device of torch, such as `cuda:1`.
        batch_size: Maximum rows of one forward pass. `auto`: what the GPU's memory is expected to hold, 384 at most.
            On a CPU 8 to 256, more for a smaller model. A batch that runs out of memory is halved.
        cache_gib: Memory for the KV cache in GiB. Images and prompts are prefilled once and shared by all samples,
            beams and later steps. 0 disables the cache. A model that does not allow it prefills every prompt in full,
            and a warning says so.
        gpu_memory: Share of the GPU's memory for this model's weights, keys and values and working memory, above 0 and
            at most 1. By default most of what is free once policy and PRM are loaded. On a CPU there is no limit. On a
            GPU it replaces the limit of `cache_gib`.
        chat_template: File with a Jinja chat template, for checkpoints without one.
        attn_implementation: Attention kernel by the names of transformers: `sdpa`, `flash_attention_2`, `eager`, ... By
            default transformers chooses.
        trust_remote_code: Whether to run Python code that comes with the checkpoint.

    Raises:
        AtomThinkError: The checkpoint cannot be loaded or used.
    """
    checkpoint = load_multimodal(
        pretrained,
        revision=revision,
        dtype=dtype,
        device=device,
        trust_remote_code=trust_remote_code,
        chat_template=chat_template,
        attn_implementation=attn_implementation,
    )
    checkpoint = with_share(checkpoint, gpu_memory, "gpu_memory")
    return checked_policy(checkpoint, pretrained, batch_size, cache_gib)


def checked_policy(
    checkpoint: Checkpoint, pretrained: str, batch_size: BatchSize, cache_gib: float
) -> TransformersPolicy:
    """Returns the policy of a checkpoint that has answered a few questions.

    Args:
        checkpoint: The loaded model.
        pretrained: What the user named, for the message.
        batch_size: As in `TransformersPolicy`.
        cache_gib: As in `TransformersPolicy`.

    Raises:
        AtomThinkError: It cannot answer them.
    """
    policy = TransformersPolicy(checkpoint, batch_size=batch_size, cache_gib=cache_gib)
    try:
        policy.check()
    except Exception as error:
        if isinstance(error, AtomThinkError):
            raise AtomThinkError(f"pretrained={pretrained!r} cannot answer a question: {error}") from error
        raise AtomThinkError(
            f"pretrained={pretrained!r} cannot answer a question: its processor or {type(checkpoint.model).__name__} "
            f"fails with transformers {transformers_version}; name another checkpoint, or install another release of "
            f"transformers ({type(error).__name__}: {first_line(error)})"
        ) from error
    return policy


def _draw(index: int, sampling: Sampling, limit: int, stops: tuple[str, ...], watch: tuple[int, ...]) -> Draw:
    temperature = sampling.temperature_of(index)
    if temperature == 0:  # one draw for all greedy samples: filters and seeds do not change an argmax
        return Draw(seed=0, max_tokens=limit, stops=stops, tops=sampling.tops, watch=watch)
    seed, top_k, top_p = sampling.seed_of(index), sampling.top_k, sampling.top_p
    return Draw(seed, temperature, top_k, top_p, limit, stops, sampling.tops, watch)


def _step(completion: Completion) -> Step:
    return Step(
        completion.text,
        completion.token_ids,
        completion.logprob,
        completion.finish,
        tops=completion.tops,
        watched=completion.watched,
    )
