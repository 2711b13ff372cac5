"""Sampling that does not depend on the batch: every row draws its noise from its own seed and position.

Gumbel-max turns sampling into an argmax: `argmax(logits / T + g)` with independent standard Gumbel `g` is
a draw from `softmax(logits / T)`. The noise of (seed, position, token) is a hash of those three numbers, so
a row gets the same tokens alone or in company, in any order, after a restart, and on any device.

Source: Maddison, Tarlow and Minka, "A* Sampling" (2014) for Gumbel-max; Steele, Lea and Flood, "Fast
splittable pseudorandom number generators" (2014) for the hash (splitmix64).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from transformers import LogitsProcessor, PreTrainedTokenizerBase, StoppingCriteria

from atomthink_plugin.api import FinishReason
from atomthink_plugin.inference.phases import phase, proceed

_GAMMA: Final = 0x9E3779B97F4A7C15 - 2**64
_MIX_1: Final = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2: Final = 0x94D049BB133111EB - 2**64

_HALF: Final = "\ufffd"
"""What stands for bytes that are no whole character."""

_BEST: Final = 1024
"""Tokens that are sorted for top-k and top-p at first, on a CPU: nearly always they suffice."""

_BITS: Final = 53
"""Random bits of a uniform number: the largest noise, which decides rare tokens, needs many."""


@dataclass(frozen=True, slots=True)
class Draw:
    """How one row is sampled.

    Attributes:
        seed: 63-bit seed of the row.
        temperature: 0 is greedy.
        top_k: Tokens kept, 0 for all.
        top_p: Nucleus kept, in (0, 1].
        max_tokens: Tokens after which the row ends.
        stops: Strings that end the row, looked for after its first visible character.
        tops: How many of the likeliest tokens to report at each position; 0 for none.
        watch: Ids whose log-probabilities to report at the first position.
    """

    seed: int
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    max_tokens: int = 256
    stops: tuple[str, ...] = ()
    tops: int = 0
    watch: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """What one row generated.

    Attributes:
        text: The text before the stop string, as decoded.
        token_ids: The ids sampled up to the end of the text, a stop string or end token that follows included.
        logprob: Sum of their log-probabilities under the unmodified model.
        finish: Why the row ended.
        generated: Ids sampled in all, those cut off included.
        tops: For each of `token_ids`, its log-probability and those of the likeliest tokens, descending; empty unless
            the draw asked for them.
        watched: Log-probabilities of the draw's `watch` at the first position.
    """

    text: str
    token_ids: tuple[int, ...]
    logprob: float
    finish: FinishReason
    generated: int
    tops: tuple[tuple[float, ...], ...] = ()
    watched: tuple[float, ...] = ()


def gumbel(seeds: torch.Tensor, position: int | torch.Tensor, vocabulary: int) -> torch.Tensor:
    """Returns standard Gumbel noise for every row and token.

    Args:
        seeds: `[rows]`, int64.
        position: Index of the generated token, from 0: of all rows, or `[rows]`, int64.
        vocabulary: Number of tokens.

    Returns:
        `[rows, vocabulary]`, float32; a function of (seed, position, token) alone.
    """
    keys = _mix(seeds + ((position + 1) * _GAMMA & (2**63 - 1)))
    tokens = torch.arange(1, vocabulary + 1, device=seeds.device) * _GAMMA
    bits = _shift(_mix(keys[:, None] + tokens[None, :]), 64 - _BITS)
    # Near 0 a float32 resolves all 53 bits; near 1 it rounds up, where log1p would be infinite.
    uniform = bits.float().add_(0.5).mul_(2.0**-_BITS).clamp_(max=1 - 2.0**-24)
    exponential = uniform.neg_().log1p_().neg_()
    return exponential.log_().neg_()


def _mix(value: torch.Tensor) -> torch.Tensor:
    """Splitmix64's finaliser; int64 products wrap like unsigned ones."""
    for bits, factor in ((30, _MIX_1), (27, _MIX_2)):
        value = _shift(value, bits).bitwise_xor_(value).mul_(factor)
    return _shift(value, 31).bitwise_xor_(value)


def _shift(value: torch.Tensor, bits: int) -> torch.Tensor:
    """Logical right shift: torch's own copies the sign bit."""
    shifted: torch.Tensor = value >> bits
    return shifted.bitwise_and_(2 ** (64 - bits) - 1)


def keep(logits: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Returns which tokens survive top-k, then top-p among those, as in transformers.

    Args:
        logits: `[rows, vocabulary]`, divided by the temperature.
        top_k: `[rows]`, tokens kept.
        top_p: `[rows]`, probability mass kept; the token that crosses it stays.

    Returns:
        `[rows, vocabulary]`, bool; at least one token per row.
    """
    if logits.device.type != "cpu" or logits.shape[-1] < 4 * _BEST:
        return _keep_of_all(logits, top_k, top_p)
    kept, wide = _keep_of_best(logits, top_k, top_p)
    if bool(wide.any()):
        kept[wide] = _keep_of_all(logits[wide], top_k[wide], top_p[wide])
    return kept


def _keep_of_best(logits: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns what `keep` does by sorting the best tokens alone, and in which rows they do not suffice."""
    vocabulary = logits.shape[-1]
    order = logits.topk(_BEST, dim=-1).indices.sort(dim=-1).values  # tokens with equal logits by id, as in `keep`
    ordered, places = torch.sort(logits.gather(1, order), dim=-1, descending=True, stable=True)
    rank = torch.arange(_BEST, device=logits.device)
    best = rank[None, :] < top_k[:, None]
    unlimited = top_k >= vocabulary
    total = torch.where(unlimited, logits.logsumexp(dim=-1), ordered.masked_fill(~best, -torch.inf).logsumexp(dim=-1))
    mass = torch.exp(ordered - total[:, None])
    kept = best & ((mass.cumsum(dim=-1) - mass < top_p[:, None]) | (top_p >= 1)[:, None])
    # The last one may be equal to tokens outside.
    wide = (kept & (ordered == ordered[:, -1:])).any(dim=-1) | ((top_k >= _BEST) & ~unlimited)
    every = unlimited & (top_p >= 1)
    out = every[:, None].repeat(1, vocabulary)
    return out.scatter(1, order.gather(1, places), kept | every[:, None]), wide & ~every


def _keep_of_all(logits: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Returns what `keep` does by sorting all tokens."""
    ordered, order = torch.sort(logits, dim=-1, descending=True, stable=True)
    rank = torch.arange(logits.shape[-1], device=logits.device)
    best = rank[None, :] < top_k[:, None]
    mass = torch.softmax(ordered.masked_fill(~best, -torch.inf), dim=-1)
    before = mass.cumsum(dim=-1) - mass
    # Rounding may bring the sum above 1, which must cut nothing where the nucleus is everything.
    kept = best & ((before < top_p[:, None]) | (top_p >= 1)[:, None])
    return torch.zeros_like(kept).scatter(1, order, kept)


def token_logprobs(
    logits: torch.Tensor, chosen: torch.Tensor, tops: int, watch: torch.Tensor | None = None
) -> torch.Tensor:
    """Returns log-probabilities under the unmodified model.

    Args:
        logits: `[rows, vocabulary]`, float32.
        chosen: `[rows]`, the sampled tokens.
        tops: How many of the likeliest tokens are reported as well.
        watch: `[rows, watched]`, further tokens that are reported.

    Returns:
        `[rows, 1 + tops + watched]`: the chosen token's, those of the likeliest tokens, descending, and those of the
        watched tokens.
    """
    found = [logits.gather(1, chosen[:, None])]
    if tops:
        found.append(logits.topk(min(tops, logits.shape[-1]), dim=-1).values)
    if watch is not None:
        found.append(logits.gather(1, watch))
    return torch.cat(found, dim=1) - torch.logsumexp(logits, dim=-1, keepdim=True)


def noisy_scores(
    logits: torch.Tensor, heat: torch.Tensor, seeds: torch.Tensor, position: int | torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns scores whose argmax is each row's sample, and the logits divided by the temperature.

    Args:
        logits: `[rows, vocabulary]`, float32.
        heat: `[rows]`, temperatures; rows at 0 get their logits as scores.
        seeds: `[rows]`, int64.
        position: As in `gumbel`.
    """
    greedy = heat == 0
    cooled = logits / heat.masked_fill(greedy, 1.0)[:, None]
    noise = gumbel(seeds, position, logits.shape[-1])
    return cooled + noise.masked_fill_(greedy[:, None], 0.0), cooled


class Sampler:
    """Each row's own sampling.

    Args:
        draws: One per row.
        device: Where the logits are.
    """

    def __init__(self, draws: Sequence[Draw], device: torch.device) -> None:
        self._seeds = torch.tensor([draw.seed for draw in draws], dtype=torch.int64, device=device)
        self._heat = torch.tensor([draw.temperature for draw in draws], dtype=torch.float32, device=device)
        self._top_k = torch.tensor([draw.top_k or 2**31 for draw in draws], device=device)
        self._top_p = torch.tensor([draw.top_p for draw in draws], dtype=torch.float32, device=device)
        self._sampled = any(draw.temperature > 0 for draw in draws)
        self._filtered = any(draw.temperature > 0 and (draw.top_k or draw.top_p < 1) for draw in draws)
        self._tops = max((draw.tops for draw in draws), default=0)
        self._watch = _watched_ids(draws, device)

    def take(self, rows: torch.Tensor) -> None:
        """Keeps the rows with these indices."""
        self._watch = None if self._watch is None else self._watch[rows]
        self._seeds, self._heat = self._seeds[rows], self._heat[rows]
        self._top_k, self._top_p = self._top_k[rows], self._top_p[rows]

    def noisy(self, logits: torch.Tensor, position: int | torch.Tensor) -> torch.Tensor:
        """Returns scores `[rows, vocabulary]` whose argmax is each row's sample.

        Args:
            logits: `[rows, vocabulary]`, float32.
            position: Index of the generated token, from 0: of all rows, or of each.
        """
        if not self._sampled:
            return logits
        noisy, cooled = noisy_scores(logits, self._heat, self._seeds, position)
        if self._filtered:
            noisy = noisy.masked_fill(~keep(cooled, self._top_k, self._top_p), -torch.inf)
        return noisy

    def logprobs(self, logits: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Returns what `token_logprobs` does, with as many of the likeliest tokens as any row asks for."""
        return token_logprobs(logits, chosen, self._tops, self._watch)


def _watched_ids(draws: Sequence[Draw], device: torch.device) -> torch.Tensor | None:
    """Returns the ids that each row watches, `[rows, most]`, after as many 0 as are missing; None without any."""
    most = max((len(draw.watch) for draw in draws), default=0)
    if most == 0:
        return None
    rows = [[*[0] * (most - len(draw.watch)), *draw.watch] for draw in draws]
    return torch.tensor(rows, dtype=torch.int64, device=device)


class GumbelProcessor(LogitsProcessor):
    """Turns transformers' greedy decoding into each row's own sampling, and records what it chose.

    Use with `do_sample=False`: the argmax of what this returns is the sample.

    Args:
        draws: One per row.
        prompt: Tokens of the padded prompt.
        device: Where the logits are.
    """

    def __init__(self, draws: Sequence[Draw], prompt: int, device: torch.device) -> None:
        self._prompt = prompt
        self._sampler = Sampler(draws, device)
        self._chosen: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Returns scores `[rows, vocabulary]` whose argmax is each row's sample."""
        proceed("decode")
        with phase("sample"):
            logits = scores.float()
            noisy = self._sampler.noisy(logits, input_ids.shape[1] - self._prompt)
            self._chosen.append(self._sampler.logprobs(logits, noisy.argmax(dim=-1)))
            return noisy  # type: ignore[return-value]

    @property
    def logprobs(self) -> torch.Tensor:
        """`[rows, generated, 1 + tops + watched]`: for each generated token what `token_logprobs` returns."""
        return torch.stack(self._chosen, dim=1)


class RowEnd:
    """Tells when a row has reached a stop string or its token limit.

    Args:
        draw: How the row is sampled.
        tokenizer: Decodes its tail.
    """

    def __init__(self, draw: Draw, tokenizer: PreTrainedTokenizerBase) -> None:
        self._draw = draw
        self._tokenizer = tokenizer
        self._visible: int | None = None
        self._seen = 0
        # A token has at least one byte, except a few that decode to nothing.
        self._tail = 8 + 2 * max((len(stop.encode()) for stop in draw.stops), default=0)

    def reached(self, ids: Sequence[int]) -> bool:
        """Returns whether the row ends with the last of `ids`.

        It need not be asked after a token that cannot complete a stop string.
        """
        return len(ids) >= self._draw.max_tokens or self._stopped(ids)

    def _stopped(self, ids: Sequence[int]) -> bool:
        start = self._first_visible(ids) if self._draw.stops else None
        if start is None:
            return False
        begin = max(start, len(ids) - self._tail)
        # A tail may begin inside a character and read otherwise than in the whole text.
        return self._stop_in(ids, begin, start) and (begin == start or self._stop_in(ids, start, start))

    def _stop_in(self, ids: Sequence[int], begin: int, start: int) -> bool:
        text = decode(self._tokenizer, ids[begin:])
        # The token that made the text visible may begin with blank lines: they are no stop.
        text = text.lstrip() if begin == start else text
        return any(stop in text for stop in self._draw.stops)

    def _first_visible(self, ids: Sequence[int]) -> int | None:
        """Returns the index of the token that made the text visible."""
        while self._visible is None and self._seen < len(ids):
            self._seen += 1
            if decode(self._tokenizer, ids[: self._seen]).strip():
                self._visible = self._seen - 1
        return self._visible


class StepEnd(StoppingCriteria):
    """Ends transformers' rows where `RowEnd` does.

    Args:
        draws: One per row.
        tokenizer: Decodes the tail of each row.
        prompt: Tokens of the padded prompt.
    """

    def __init__(self, draws: Sequence[Draw], tokenizer: PreTrainedTokenizerBase, prompt: int) -> None:
        self._ends = [RowEnd(draw, tokenizer) for draw in draws]
        self._prompt = prompt
        self._lengths: list[int | None] = [None] * len(draws)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: object) -> torch.BoolTensor:
        """Returns which rows are done, `[rows]`."""
        with phase("device"):
            rows = input_ids[:, self._prompt :].tolist()
        with phase("ends"):
            for at, ids in enumerate(rows):
                if self._lengths[at] is None and self._ends[at].reached(ids):
                    self._lengths[at] = len(ids)
        done = [length is not None for length in self._lengths]
        return torch.tensor(done, device=input_ids.device)  # type: ignore[return-value]

    def length(self, row: int) -> int | None:
        """Returns how many ids `row` had when this ended it, None if something else did."""
        return self._lengths[row]


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """Returns the text of `ids` without special tokens, blanks untouched."""
    text = tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return str(text)


def _decode_after(tokenizer: PreTrainedTokenizerBase, said: Sequence[int], ids: Sequence[int]) -> str:
    """Returns the text of `ids` after that of `said`.

    By themselves `ids` may have another one: their first character may begin in `said`, where its half is no text, and
    SentencePiece tokenizers write no blank before the first word of a text.
    """
    before = decode(tokenizer, said).removesuffix(_HALF) if said else ""
    whole = decode(tokenizer, [*said, *ids])
    return whole.removeprefix(before) if whole.startswith(before) else decode(tokenizer, ids)


def complete(
    ids: Sequence[int],
    logprobs: Sequence[Sequence[float]],
    draw: Draw,
    tokenizer: PreTrainedTokenizerBase,
    ends: Sequence[int],
    said: Sequence[int] = (),
) -> Completion:
    """Cuts what one row generated at its stop string.

    Args:
        ids: Generated ids; anything may follow an end token.
        logprobs: For each of them, its log-probability, at least `draw.tops` of those of the likeliest tokens, and
            those of the watched tokens of the batch.
        draw: How the row was sampled.
        tokenizer: The policy's.
        ends: Ids that end a reply.
        said: Last ids of the text that it continues, empty if it starts a new one.
    """
    end = next((at + 1 for at, token in enumerate(ids) if token in ends), len(ids))
    ids = tuple(ids[:end])
    finish: FinishReason = "eos" if ids and ids[-1] in ends else "length"
    text, kept = _decode_after(tokenizer, said, ids), len(ids)
    lead = len(text) - len(text.lstrip())
    found = [(text.index(stop, lead), stop) for stop in draw.stops if stop in text[lead:]]
    if found:
        at, stop = min(found)
        if at + len(stop) < len(text):
            kept = _covering(tokenizer, said, ids, text[:at])
        text, finish = text[:at], "stop"
    logprob = float(sum(own for own, *_ in logprobs[:kept]))
    tops = tuple(tuple(position[: 1 + draw.tops]) for position in logprobs[:kept]) if draw.tops else ()
    watched = tuple(logprobs[0][-len(draw.watch) :]) if draw.watch and ids else ()
    return Completion(text, ids[:kept], logprob, finish, len(ids), tops, watched)


def _covering(tokenizer: PreTrainedTokenizerBase, said: Sequence[int], ids: tuple[int, ...], text: str) -> int:
    """Returns how many of `ids` it takes to write `text`; the last one may write more."""
    count = len(ids)
    while count > 1 and _decode_after(tokenizer, said, ids[: count - 1]).startswith(text):
        count -= 1
    return count
