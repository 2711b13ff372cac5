"""Any model that lmms-eval has registered, as a policy: slower than the others."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

from pydantic import Json

from atomthink_plugin.api import (
    AtomThinkError,
    Prompt,
    Proposal,
    QuestionError,
    Sampling,
    Usage,
)
from atomthink_plugin.inference.batch_size import BatchSize
from atomthink_plugin.inference.checkpoint_files import weights
from atomthink_plugin.inference.phases import PhaseClock
from atomthink_plugin.inference.text_samples import TextSample, to_step
from atomthink_plugin.model_adapters.registered_base import BaseReply, Conversation, RegisteredBase, load_base, seed_all
from atomthink_plugin.runtime.batcher import MicroBatcher

_GATHERED: Final = 256
"""Requests that are sorted into calls together: those that can share a call have to be found first."""

_BYTES_PER_TOKEN: Final = 4
"""Counts tokens where a base does not."""

Arguments = tuple[tuple[str, Any], ...]
"""Generation arguments by the harness's names."""


@dataclass
class PendingRequest:
    """One request, and its reply once the base has answered."""

    conversation: Conversation
    arguments: Arguments
    seed: int | None
    reply: BaseReply | None = None


class RegisteredPolicy:
    """Answers prompts with a model of lmms-eval through its `generate_until`, batched over all calls that wait.

    Such a model returns one text for a prompt, and nothing else can be relied on. Every prompt is read in full, its
    images included. Stop strings are not passed on: the model writes until its end of sequence or the token limit, and
    its text is cut here. Steps have no log-probabilities. `token_ids` are placeholders, as many as the base counted or,
    where it does not count, a quarter of the bytes; a text that the token limit ended is then not recognised as such.

    Greedy samples of one prompt are one request. Other samples are drawn from the generators of torch, numpy and
    Python, which are seeded before each call. With `batch_size=1` a call is one sample and depends on its seed alone.
    With more, a sample depends on which requests share its call, and may be another one in another run. A base that
    samples elsewhere (a server, vLLM, worker processes) is not reproducible. Temperature, top_p and, if asked for,
    top_k are passed as generation arguments; the base decides which of them it uses, and its checkpoint's defaults (a
    repetition penalty, top_k=50) apply.

    Args:
        base: The model.
        identity: Distinguishes its results from those of other policies.
        batch_size: Requests in one call at most; all of one call have the same generation arguments.
    """

    def __init__(self, base: RegisteredBase, identity: str, *, batch_size: int = 1) -> None:
        self.identity = identity
        self.base = base
        self.clock = PhaseClock()
        self._size = batch_size
        self._batcher: MicroBatcher[PendingRequest, BaseReply] = MicroBatcher(self._serve, max(_GATHERED, batch_size))

    async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        """Samples `n` replies to `prompt`.

        Raises:
            AtomThinkError: The prompt begins the reply, or log-probabilities are asked for.
            QuestionError: The base fails it.
        """
        self.check_prompts([prompt], sampling)
        draws = [_draw(index, sampling) for index in range(n)]
        asked = {draw: PendingRequest(prompt.messages, *draw) for draw in draws}
        replies = dict(zip(asked, await asyncio.gather(*map(self._ask, asked.values())), strict=True))
        usage = Usage(
            policy_calls=n,
            generated=sum(map(_tokens, replies.values())),
            prefilled=sum(reply.prompt_tokens or 0 for reply in replies.values()),
            images=len(replies) * len(prompt.images),
        )
        samples = {draw: _sample(reply, sampling.max_tokens) for draw, reply in replies.items()}
        return Proposal(tuple(to_step(samples[draw], prompt.stops) for draw in draws), usage)

    def check_prompts(self, prompts: Sequence[Prompt], sampling: Sampling) -> None:
        """Checks that a run's prompts can be answered.

        Raises:
            AtomThinkError: A prompt begins the reply, or log-probabilities are asked for.
        """
        if any(prompt.begun for prompt in prompts):
            raise AtomThinkError(
                "this format needs a model that continues a reply, which models of lmms-eval cannot do: pass "
                "`format=atomic`, which asks for each step in a prompt of its own"
            )
        if sampling.tops:
            raise AtomThinkError(
                f"this search needs log-probabilities of tokens, and `base={self.base.name}`, a model of lmms-eval, "
                "gives none: run the checkpoint with --model atomthink_hf or atomthink_vllm, or pass `prm=` to "
                "`search=mcts`"
            )

    async def _ask(self, asked: PendingRequest) -> BaseReply:
        try:
            return await self._batcher.submit(asked)
        except AtomThinkError:
            raise
        except Exception as error:
            raise QuestionError(f"`base={self.base.name}` failed: {type(error).__name__}: {error}") from error

    def _serve(self, batch: Sequence[PendingRequest]) -> list[BaseReply]:
        """Asks for the replies that are missing; after a call that fails, the other calls are still made.

        The batcher halves a batch that fails and runs both halves, until the request that fails is alone.
        """
        failure: Exception | None = None
        for call in self._calls([asked for asked in batch if asked.reply is None]):
            try:
                self._call(call)
            except Exception as error:
                failure = error
        if failure is not None:
            raise failure
        return [asked.reply for asked in batch if asked.reply is not None]

    def _calls(self, batch: Sequence[PendingRequest]) -> Iterator[list[PendingRequest]]:
        """Sorts requests into calls with the same arguments: most models use those of the first request for all."""
        groups: dict[Arguments, list[PendingRequest]] = {}
        for asked in batch:
            groups.setdefault(asked.arguments, []).append(asked)
        for group in groups.values():
            yield from (group[at : at + self._size] for at in range(0, len(group), self._size))

    def _call(self, call: Sequence[PendingRequest]) -> None:
        seeds = [asked.seed for asked in call if asked.seed is not None]
        if seeds:
            seed_all(seeds)
        with self.clock.request(len(call)):
            replies = self.base.ask([asked.conversation for asked in call], dict(call[0].arguments))
        for asked, reply in zip(call, replies, strict=True):
            asked.reply = reply


def registered_policy(
    base: str,
    *,
    pretrained: str | None = None,
    base_args: dict[str, Any] | Json[dict[str, Any]] | None = None,
    batch_size: BatchSize = "auto",
    device: str | None = None,
) -> RegisteredPolicy:
    """Uses any model of lmms-eval that has a `generate_until`.

    Args:
        base: Name of the model in lmms-eval, as in `lmms-eval --model NAME`.
        pretrained: The base's argument `pretrained`, which most bases have.
        base_args: All other arguments of the base: a mapping in a `config=` file, or JSON.
        batch_size: Requests in one call, and the base's own `batch_size`. `auto` is 1: many bases accept no more.
        device: The base's own `device`. By default the base chooses.

    Raises:
        AtomThinkError: The base cannot be made.
    """
    rows = 1 if batch_size == "auto" else batch_size
    own = dict(base_args or {})
    if pretrained is not None and "pretrained" in own:
        raise AtomThinkError(
            f"`pretrained={pretrained}` is also in base_args, as {own['pretrained']!r}: name it in one place"
        )
    source = own.get("pretrained", pretrained)
    if isinstance(source, str):
        own["pretrained"] = source = os.path.expanduser(source)
    given = {"batch_size": rows, "device": device, **own}
    loaded = load_base(base, {name: value for name, value in given.items() if value is not None})
    digest = f" {weights(source)}" if isinstance(source, str) else ""
    identity = f"lmms-eval {version('lmms-eval')}: {base}{digest}"
    return RegisteredPolicy(loaded, identity, batch_size=rows)


def _draw(index: int, sampling: Sampling) -> tuple[Arguments, int | None]:
    """Generation arguments and seed of one sample; greedy ones have none and are all the same."""
    temperature = sampling.temperature_of(index)
    arguments: dict[str, Any] = {"max_new_tokens": sampling.max_tokens, "temperature": temperature}
    if temperature == 0:
        return (*arguments.items(), ("do_sample", False)), None
    arguments |= {"do_sample": True, "top_p": sampling.top_p}
    if sampling.top_k:
        arguments["top_k"] = sampling.top_k
    return tuple(arguments.items()), sampling.seed_of(index)


def _tokens(reply: BaseReply) -> int:
    return math.ceil(len(reply.text.encode()) / _BYTES_PER_TOKEN) if reply.tokens is None else reply.tokens


def _sample(reply: BaseReply, limit: int) -> TextSample:
    cut = reply.tokens is not None and reply.tokens >= limit
    return TextSample(reply.text, "length" if cut else "stop", _tokens(reply))
