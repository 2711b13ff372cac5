"""Any OpenAI-compatible server (vLLM, SGLang, hosted ones) as a policy."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from atomthink_plugin.api import (
    AtomThinkError,
    Message,
    Prompt,
    Proposal,
    QuestionError,
    Sampling,
    Usage,
)
from atomthink_plugin.inference.context import least_tokens
from atomthink_plugin.inference.phases import PhaseClock
from atomthink_plugin.inference.text_samples import to_step
from atomthink_plugin.runtime.event_loop import run
from atomthink_plugin.servers.chat_endpoint import (
    MOST_TOPS,
    ChatRequest,
    ChatSamples,
    ContextFullError,
    Endpoint,
    UnknownModelError,
)
from atomthink_plugin.servers.chat_turns import ChatTurns
from atomthink_plugin.servers.openai_client import Server, addresses, key
from atomthink_plugin.servers.origin import origin
from atomthink_plugin.servers.pool import Servers

OPENAI: Final = "https://api.openai.com/v1"

Continuation = Literal["check", "trust"]
"""Whether to check before the first question that servers continue the assistant's turn, or to trust that they do."""

_TRIED: Final = (Message("user", ("What is 1 + 1?",)),)
_TRIED_TOKENS: Final = 16

_LISTED: Final = 20
"""Models an error names."""


class OpenAIPolicy:
    """Answers prompts with one or several servers of one model.

    The prompts of a session go to one server, whose prefix cache then has their beginnings, while it can be reached.
    The samples of one temperature are one request with `n=`, drawn from the seed of the first. Where a server does not
    support that, each sample is a request with its own seed. Greedy samples of one prompt are one request.

    On a server that honours `seed` and computes alike in any batch, these are reproducible: greedy samples, samples
    with `n` of 1, and all samples of a prompt together for the same `n`. One sample of several is another one for
    another `n`. Seeds have 31 bits, which every server can hold. Hosted servers guarantee nothing.

    A step's `token_ids` are placeholders, one for each token that was sampled up to its end. A step has no
    log-probabilities where the server gives none; a prompt whose sampling asks for `tops` then fails. For `tops=20`,
    the protocol's limit, vLLM may list the sampled token in the place of the least likely one.

    An image travels to a vLLM server once; later requests name it. `Usage.images` counts the images of all requests;
    servers do not report which of them they had encoded before.

    Servers may add their own sampling parameters: start vLLM with `--generation-config vllm` and SGLang with
    `--sampling-defaults openai`, or a checkpoint's own repetition penalty and filters apply.

    Args:
        model: What the servers call the model.
        endpoints: The servers.
        wait: Seconds to wait for a server to come back when none is left.
        continuation: Whether servers are tried before the first prompt that continues the assistant's turn.
    """

    def __init__(
        self, model: str, endpoints: Sequence[Endpoint], wait: float, continuation: Continuation = "check"
    ) -> None:
        self.identity = f"openai:{model}"
        self._model = model
        self._endpoints = {endpoint.server: endpoint for endpoint in endpoints}
        self.clock = PhaseClock()
        for server in self._endpoints:
            server.clock = self.clock
        self._servers = Servers(list(self._endpoints), wait)
        self._continues = continuation == "trust"
        self._turns = ChatTurns()

    async def propose(self, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        """Samples `n` replies to `prompt`.

        A server says that the wanted tokens do not fit in the context, not how many would: half as many are asked for,
        down to what a step needs.

        Raises:
            QuestionError: A prompt of depth 0 leaves no room in the context, an image is broken, or the server fails.
            AtomThinkError: More log-probabilities are asked for than the protocol has, or a server cannot continue
                the assistant's turn.
        """
        _check_tops(sampling.tops)
        if prompt.begun and not self._continues:  # the policy of a role learns only now how it is asked
            await self._check_all_continue(prompt)
        return await self._servers.ask(
            prompt.session, lambda server: self._fitting(self._endpoints[server], prompt, n, sampling)
        )

    async def _fitting(self, endpoint: Endpoint, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        limit, room = sampling.max_tokens, least_tokens(sampling.max_tokens)
        while True:
            try:
                return await self._propose(endpoint, prompt, n, replace(sampling, max_tokens=limit))
            except ContextFullError as error:
                limit //= 2
                if limit < room and prompt.depth == 0:
                    raise QuestionError(
                        f"{error}; a step needs {room} tokens more: shorten the question, use a smaller image, or "
                        "serve a model with a longer context"
                    ) from None
                if limit < room:
                    return Proposal(())

    async def _propose(self, endpoint: Endpoint, prompt: Prompt, n: int, sampling: Sampling) -> Proposal:
        ask = ChatRequest(
            self._turns(prompt.messages),
            prompt.prefix,
            stops=prompt.stops,
            max_tokens=sampling.max_tokens,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            tops=sampling.tops,
            watch=sampling.watch,
        )
        groups: dict[float, list[int]] = {}
        for index in range(n):
            groups.setdefault(sampling.temperature_of(index), []).append(index)
        drawn = await asyncio.gather(
            *(
                _draw(endpoint, replace(ask, temperature=temperature), [_seed(i, sampling) for i in indices])
                for temperature, indices in groups.items()
            )
        )
        samples = {
            index: sample
            for indices, one in zip(groups.values(), drawn, strict=True)
            for index, sample in zip(indices, one.samples, strict=True)
        }
        steps = [to_step(samples[i], prompt.stops) for i in range(n) if samples[i].finish != "content_filter"]
        if not steps:
            raise QuestionError(f"{endpoint.name} withheld every reply by its content filter")
        usage = sum((one.usage for one in drawn), Usage(policy_calls=n))
        return Proposal(tuple(steps), usage)

    # --- before the first question -------------------------------------------------------------

    async def check(self) -> None:
        """Asks every server for a few tokens, and completes the identity.

        The list of models would not do: some servers have none, some show it without a key, some accept names that
        are not in it.

        Raises:
            AtomThinkError: A server cannot be reached, refuses the key, or does not know the model.
        """
        await asyncio.gather(*map(self._check, self._endpoints.values()))
        self.identity = f"openai:{self._model} from {await origin(list(self._endpoints), self._model)}"

    def check_prompts(self, prompts: Sequence[Prompt], sampling: Sampling) -> None:
        """Checks that every server can answer a run's prompts, with a few tokens if they need more than a reply.

        Raises:
            AtomThinkError: A server cannot continue the assistant's turn or gives no log-probabilities of the likeliest
                tokens, or more of them are asked for than the protocol has.
        """
        _check_tops(sampling.tops)
        if sampling.tops:
            ask = ChatRequest(self._turns(prompts[0].messages), max_tokens=_TRIED_TOKENS, tops=sampling.tops)
            run(self._check_all(ask))
        begun = next((prompt for prompt in prompts if prompt.begun), None)
        if begun is not None and not self._continues:
            run(self._check_all_continue(begun))

    async def _check_all(self, ask: ChatRequest) -> None:
        try:
            await asyncio.gather(*(endpoint.complete(ask) for endpoint in self._endpoints.values()))
        except QuestionError as error:
            raise AtomThinkError(str(error)) from None

    async def _check_all_continue(self, prompt: Prompt) -> None:
        ask = ChatRequest(self._turns(prompt.messages), max_tokens=_TRIED_TOKENS)
        checks = (self._check_continuation(endpoint, ask, prompt.prefix) for endpoint in self._endpoints.values())
        await asyncio.gather(*checks)
        self._continues = True

    async def _check(self, endpoint: Endpoint) -> None:
        ask = ChatRequest(self._turns(_TRIED), max_tokens=_TRIED_TOKENS)
        try:
            await endpoint.complete(ask)
        except UnknownModelError as error:
            names = ", ".join((await endpoint.server.models())[:_LISTED]) or "nothing that it lists"
            raise AtomThinkError(f"{error}; it serves {names}") from None
        except QuestionError as error:
            raise AtomThinkError(str(error)) from None

    async def _check_continuation(self, endpoint: Endpoint, ask: ChatRequest, prefix: str) -> None:
        """Compares the token counts of prompts: a continued turn has neither its end nor a new turn after it."""
        advice = (
            f"{endpoint.name}: this run's format begins the assistant's turn, which needs a server that continues it, "
            "as vLLM and SGLang do; pass `format=atomic`, which every server can answer"
        )
        try:
            ask = replace(ask, prefix=prefix)
            continued, fresh = await asyncio.gather(
                endpoint.complete(ask), endpoint.complete(replace(ask, continued=False))
            )
        except QuestionError as error:
            raise AtomThinkError(f"{advice} ({error})") from None
        if not 0 < _prompt(continued) < _prompt(fresh):
            raise AtomThinkError(
                f"{advice}. It ignored `continue_final_message` ({_prompt(continued)} prompt tokens with "
                f"it, {_prompt(fresh)} without); if it continues nevertheless, pass `continuation=trust`"
            )


def openai_policy(
    pretrained: str,
    *,
    base_url: str = OPENAI,
    data_parallel_size: PositiveInt = 1,
    continuation: Continuation = "check",
    logprobs: bool = True,
    connections: PositiveInt = 256,
    timeout: PositiveFloat = 300.0,
    max_retries: NonNegativeInt = 5,
    wait: NonNegativeFloat = 600.0,
) -> OpenAIPolicy:
    """Uses a model on OpenAI-compatible servers, which are tried with a few tokens first.

    The key is read from the environment variable OPENAI_API_KEY. A server that asks for no key needs none.

    Args:
        pretrained: Name of the model on its servers.
        base_url: Address of the server, with `/v1` if it has that. Addresses of several servers of one model are
            separated by `;`; each question stays with one server as long as it is up. When a run is resumed, the
            model at another address counts as the same only if its server reports its checkpoint, as vLLM does.
        data_parallel_size: Engines at each address, as in the option `--data-parallel-size` of `vllm serve`. Each
            question stays with one of them, so that its prefix cache serves all steps. With 1, the server chooses the
            engine for each request.
        continuation: All formats but `atomic` need a server that continues the assistant's turn, as vLLM and SGLang do.
            `check`: this is checked before the first question. `trust`: it is not.
        logprobs: Whether to ask for log-probabilities, which `scorer=confidence` needs. If the server has none, they
            are left out with a warning.
        connections: Maximum requests in flight at each server, or at each of its engines.
        timeout: Seconds that one attempt of a request may take.
        max_retries: Further attempts after a rate limit (HTTP 429), a server error or a lost connection. The pause
            before each grows to at most 8 s, unless the server asks for another.
        wait: Seconds to wait for a server to come back when no other server is up, before the question fails.

    Raises:
        AtomThinkError: An argument, the key or a server cannot be used.
    """
    secret = key()
    endpoints = [
        Endpoint(
            Server(url, secret, timeout=timeout, max_retries=max_retries, connections=connections, rank=rank),
            pretrained,
            logprobs=logprobs,
        )
        for url in addresses(base_url)
        for rank in (range(data_parallel_size) if data_parallel_size > 1 else (None,))
    ]
    policy = OpenAIPolicy(pretrained, endpoints, wait, continuation)
    run(policy.check())
    return policy


def _check_tops(tops: int) -> None:
    if tops > MOST_TOPS:
        raise AtomThinkError(
            f"this search needs the log-probabilities of the {tops} likeliest tokens, and servers give those of at "
            f"most {MOST_TOPS}: run the checkpoint with --model atomthink_hf or atomthink_vllm"
        )


async def _draw(endpoint: Endpoint, ask: ChatRequest, seeds: list[int]) -> ChatSamples:
    """Draws a sample for each seed; greedy ones are one text."""
    if ask.temperature > 0:
        return await endpoint.draw(ask, seeds)
    drawn = await endpoint.draw(ask, [None])
    return ChatSamples(drawn.samples * len(seeds), drawn.usage)


def _seed(index: int, sampling: Sampling) -> int:
    """Returns the sample's seed; many servers keep 32 bits, some of them signed."""
    return sampling.seed_of(index) >> 32


def _prompt(drawn: ChatSamples) -> int:
    return drawn.usage.prefilled + drawn.usage.cached
