"""Samples from vLLM's outputs: where they end, and their parts as one step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from atomthink_plugin.api import FinishReason, Step
from atomthink_plugin.inference.text_samples import watched_in

if TYPE_CHECKING:
    from vllm.outputs import CompletionOutput


@dataclass(frozen=True, slots=True)
class VllmSample:
    """A sample as far as it is drawn.

    Attributes:
        text: Its text. It ends with the stop string at which vLLM stopped.
        ids: Its token ids.
        logprob: Sum of their log-probabilities, None if they were not asked for.
        finish: Why vLLM stopped.
        end: Where the first stop string after the first visible character begins, None if there is none.
        tops: As in `Step`.
        watched: As in `Step`.
    """

    text: str = ""
    ids: tuple[int, ...] = ()
    logprob: float | None = 0.0
    finish: FinishReason = "stop"
    end: int | None = None
    tops: tuple[tuple[float, ...], ...] = ()
    watched: tuple[float, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether it is a whole sample. One that stopped before anything visible is not."""
        return self.end is not None or self.finish != "stop"

    @property
    def step(self) -> Step:
        """The sample as a step, cut before its stop string."""
        finish: FinishReason = self.finish if self.end is None else "stop"
        return Step(self.text[: self.end], self.ids, self.logprob, finish, tops=self.tops, watched=self.watched)


@dataclass(frozen=True, slots=True)
class OutputReader:
    """Reads vLLM's outputs for one prompt.

    Attributes:
        stops: Strings that end a sample.
        stop_tokens: Texts of tokens that end a sample, by their ids.
        decode: Decodes token ids.
        tops: How many of the likeliest tokens to keep at each position.
        watch: Ids of the tokens to look for at the first position.
    """

    stops: Sequence[str]
    stop_tokens: Mapping[int, str]
    decode: Callable[[Sequence[int]], str]
    tops: int = 0
    watch: Sequence[int] = ()

    def extended(self, begun: VllmSample, output: CompletionOutput) -> VllmSample:
        """Returns the sample `begun` with what vLLM drew after it."""
        ids = (*begun.ids, *output.token_ids)
        finish = self._finish(output)
        text = begun.text + output.text
        if isinstance(output.stop_reason, str):
            text += output.stop_reason
        elif finish == "stop":
            text += self.stop_tokens[int(output.stop_reason or 0)]
        end = self._end(text)
        if finish == "stop" and end is None:
            text = self.decode(ids)  # vLLM leaves out what its last token has after the stop string
        return VllmSample(
            text,
            ids,
            _sum(begun.logprob, output.cumulative_logprob),
            finish,
            end,
            (*begun.tops, *_tops(output, self.tops)) if self.tops else (),
            begun.watched or (_watched(output, self.watch) if self.watch and not begun.ids else ()),
        )

    def _finish(self, output: CompletionOutput) -> FinishReason:
        if output.finish_reason == "length":
            return "length"
        at_stop = isinstance(output.stop_reason, str) or output.stop_reason in self.stop_tokens
        return "stop" if at_stop else "eos"

    def _end(self, text: str) -> int | None:
        visible = len(text) - len(text.lstrip())
        ends = [text.find(stop, visible + 1) for stop in self.stops]
        return min((end for end in ends if end >= 0), default=None)


def _sum(before: float | None, more: float | None) -> float | None:
    return None if before is None or more is None else before + more


def _watched(output: CompletionOutput, watch: Sequence[int]) -> tuple[float, ...]:
    """Returns `Step.watched` of the tokens with these ids."""
    listed = {str(token): one.logprob for token, one in output.logprobs[0].items()} if output.logprobs else {}
    return watched_in(listed, [str(token) for token in watch])


def _tops(output: CompletionOutput, count: int) -> tuple[tuple[float, ...], ...]:
    """Returns each token's log-probability and those of the `count` likeliest; vLLM gives them by id, in no order."""
    found = []
    for token, given in zip(output.token_ids, output.logprobs or (), strict=True):
        likeliest = sorted((one.logprob for one in given.values()), reverse=True)
        found.append((given[token].logprob, *likeliest[:count]))
    return tuple(found)
