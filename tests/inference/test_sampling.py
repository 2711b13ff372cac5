"""Sampling draws from the model's distribution, and each row's draw is its own."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import chisquare, kstest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from atomthink_plugin.inference.sampling import (
    Draw,
    GumbelProcessor,
    StepEnd,
    _keep_of_all,
    complete,
    gumbel,
    keep,
    token_logprobs,
)
from tests.tiny_models import tokenizer

CPU = torch.device("cpu")
LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -3.0])
WORDS = tokenizer(["<s>", "</s>"], bos_token="<s>", eos_token="</s>")


def samples(count: int, **how: float) -> torch.Tensor:
    """Tokens that `count` rows with different seeds draw from LOGITS."""
    draws = [Draw(seed, **how) for seed in range(count)]  # type: ignore[arg-type]
    scores = GumbelProcessor(draws, 3, CPU)(torch.zeros(count, 3, dtype=torch.long), LOGITS.expand(count, -1))
    return scores.argmax(-1)


def test_noise_is_standard_gumbel_in_every_direction() -> None:
    by_seed = gumbel(torch.arange(5000), 0, 1)[:, 0]
    by_token = gumbel(torch.tensor([7]), 0, 5000)[0]
    by_position = torch.stack([gumbel(torch.tensor([7]), at, 1)[0, 0] for at in range(2000)])
    for noise in (by_seed, by_token, by_position):
        assert kstest(noise.numpy(), "gumbel_r").pvalue > 1e-3


def splitmix(value: int) -> int:
    """The published hash, in unbounded integers."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) % 2**64
    return value ^ (value >> 31)


@pytest.mark.parametrize("seed", [0, 12345, 2**63 - 1])
def test_noise_is_the_hash_written_out(seed: int) -> None:
    golden = 0x9E3779B97F4A7C15
    key = splitmix((seed + 6 * (golden - 2**64) % 2**63) % 2**64)
    bits = [splitmix((key + token * golden) % 2**64) >> 11 for token in (1, 2, 3)]
    expected = [-math.log(-math.log1p(-(number + 0.5) / 2**53)) for number in bits]
    assert gumbel(torch.tensor([seed]), 5, 3)[0].tolist() == pytest.approx(expected, abs=1e-5)


def test_noise_of_a_row_ignores_its_companions() -> None:
    seeds = torch.tensor([3, 1, 4, 1, 5])
    together = gumbel(seeds, 9, 11)
    assert torch.equal(together[1], together[3])
    assert all(torch.equal(together[at], gumbel(seeds[at : at + 1], 9, 11)[0]) for at in range(5))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_samples_follow_the_softmax(temperature: float) -> None:
    counts = torch.bincount(samples(20000, temperature=temperature), minlength=6)
    expected = torch.softmax(LOGITS.double() / temperature, 0) * 20000
    assert chisquare(counts.numpy(), expected.numpy()).pvalue > 1e-3


def test_top_k_and_top_p_follow_the_softmax_of_what_is_kept() -> None:
    counts = torch.bincount(samples(20000, temperature=1.0, top_k=3, top_p=0.8), minlength=6)
    kept = torch.softmax(LOGITS[:2].double(), 0) * 20000  # of the best three, the first two reach 0.8
    assert counts[2:].sum() == 0
    assert chisquare(counts[:2].numpy(), kept.numpy()).pvalue > 1e-3


def test_filters_keep_what_transformers_keeps() -> None:
    from transformers import TopKLogitsWarper, TopPLogitsWarper

    logits = torch.randn(50, 40, generator=torch.Generator().manual_seed(0)) * 3
    for top_k, top_p in ((5, 0.7), (40, 0.3), (1, 1.0), (40, 1.0)):
        theirs = TopPLogitsWarper(top_p)(None, TopKLogitsWarper(top_k)(None, logits))
        ours = keep(logits, torch.full((50,), top_k), torch.full((50,), top_p))
        assert torch.equal(ours, theirs > -torch.inf)


@pytest.mark.parametrize("spread", [0.5, 3.0])  # a nucleus wider than the tokens that are sorted at first, or not
@pytest.mark.parametrize("step", [0.0, 0.25])  # with tokens of equal logits
def test_filters_of_a_large_vocabulary_keep_what_sorting_all_of_it_keeps(spread: float, step: float) -> None:
    logits = torch.randn(8, 9000, generator=torch.Generator().manual_seed(0)) * spread
    logits = (logits / step).round() * step if step else logits
    top_k = torch.tensor([2**31, 2**31, 2**31, 5, 1023, 1024, 4000, 40])
    top_p = torch.tensor([1.0, 0.9, 0.3, 1.0, 0.999, 0.9, 1.0, 0.5])
    kept = keep(logits, top_k, top_p)
    assert torch.equal(kept, _keep_of_all(logits, top_k, top_p))
    assert all(torch.equal(kept[at], keep(logits[[at]], top_k[[at]], top_p[[at]])[0]) for at in range(8))


def test_rows_keep_their_own_settings() -> None:
    rows = [Draw(1), Draw(1, 1.0), Draw(2, 1.0, top_k=1), Draw(3, 5.0, top_p=0.01)]
    scores = GumbelProcessor(rows, 0, CPU)(torch.zeros(4, 0, dtype=torch.long), LOGITS.expand(4, -1))
    assert torch.equal(scores[0], LOGITS)
    assert scores[2:].argmax(-1).tolist() == [0, 0]
    alone = GumbelProcessor(rows[1:2], 0, CPU)(torch.zeros(1, 0, dtype=torch.long), LOGITS[None])
    assert torch.equal(scores[1], alone[0])


def test_recorded_logprobs_are_those_of_the_unmodified_logits() -> None:
    processor = GumbelProcessor([Draw(1, 3.0, top_k=2), Draw(0)], 0, CPU)
    scores = processor(torch.zeros(2, 0, dtype=torch.long), LOGITS.expand(2, -1))
    expected = torch.log_softmax(LOGITS, 0)[scores.argmax(-1)]
    assert torch.allclose(processor.logprobs, expected[:, None, None])


def test_the_likeliest_tokens_are_reported_with_the_chosen_one() -> None:
    total = math.log(sum(math.exp(logit) for logit in LOGITS.tolist()))
    logprobs = [logit - total for logit in LOGITS.tolist()]
    shuffled = LOGITS[[3, 5, 0, 4, 1, 2]].expand(3, -1)
    found = token_logprobs(shuffled, torch.tensor([2, 4, 1]), 2).tolist()
    for row, own in zip(found, (0, 1, 5), strict=True):  # the likeliest, the second, and one outside
        assert row == pytest.approx([logprobs[own], logprobs[0], logprobs[1]], abs=1e-6)
    assert token_logprobs(shuffled, torch.tensor([1, 1, 1]), 0).tolist() == [[pytest.approx(logprobs[5])]] * 3
    assert token_logprobs(shuffled, torch.tensor([1, 1, 1]), 10).shape == (3, 1 + len(logprobs))


def test_each_row_has_as_many_of_the_likeliest_tokens_as_it_asks_for() -> None:
    draws = [Draw(0, tops=2), Draw(0), Draw(0, tops=1)]
    processor = GumbelProcessor(draws, 0, CPU)
    for _ in range(2):
        processor(torch.zeros(3, 0, dtype=torch.long), LOGITS.expand(3, -1))
    rows = processor.logprobs.tolist()
    done = [complete([5, 5], row, draw, WORDS, [1]) for row, draw in zip(rows, draws, strict=True)]
    assert [[len(position) for position in one.tops] for one in done] == [[3, 3], [], [2, 2]]
    assert {one.logprob for one in done} == {done[0].logprob}


def sentencepiece(words: list[str]) -> PreTrainedTokenizerFast:
    """A tokenizer that writes no blank before a text's first word, as Llama's does."""
    vocabulary = {word: at for at, word in enumerate(["<unk>", "</s>", *words])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>")


def in_pieces(words: PreTrainedTokenizerFast, ids: list[int], size: int) -> list[str]:
    """The texts of a reply that is sampled `size` tokens at a time."""
    end = len(words) - 1
    starts = range(0, len(ids), size)
    pieces = [(ids[:start], ids[start : start + size]) for start in starts]
    texts = [complete(piece, [[0.0]] * len(piece), Draw(0), words, [end], said).text for said, piece in pieces]
    return [text.removesuffix("\ufffd") for text in texts]  # half a character is in the text after it


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_texts_of_a_reply_in_pieces_are_that_of_the_whole(size: int) -> None:
    words = sentencepiece(["\u2581The", "\u2581answer", "\u2581is", ":", "\u25811", "2", "."])
    ids = [2, 3, 4, 5, 6, 7, 8]
    assert "".join(in_pieces(words, ids, size)) == "The answer is: 12."
    ids = WORDS.encode("2 × 3 ≤ 7, 答案是 √36 😀!", add_special_tokens=False)
    assert len(ids) > 20  # most characters are several tokens
    assert "".join(in_pieces(WORDS, ids, size)) == "2 × 3 ≤ 7, 答案是 √36 😀!"


def run_row(text: str, stops: tuple[str, ...], limit: int = 500) -> tuple[str, str, int]:
    """Feeds `text` token by token until the row ends; returns its text, finish and length."""
    ids = WORDS.encode(text, add_special_tokens=False)
    draw = Draw(0, max_tokens=limit, stops=stops)
    end = StepEnd([draw], WORDS, 0)
    for count in range(1, len(ids) + 1):
        if end(torch.tensor([ids[:count]]), torch.empty(0))[0]:
            break
    done = complete(ids[: end.length(0)], [[-1.0]] * count, draw, WORDS, [1])
    assert WORDS.decode(done.token_ids).startswith(done.text)
    assert done.logprob == -len(done.token_ids)
    return done.text, done.finish, count


@pytest.mark.parametrize("stop", ["\n\n", "\nStep 2", "2"])
def test_a_row_ends_at_its_stop_string_and_no_later(stop: str) -> None:
    text = "Step 1: Compute 1 + 1 = two.\n\nStep 2: and so on.\nStep 2"
    step, finish, count = run_row(text, (stop,))
    assert (step, finish) == (text[: text.index(stop)], "stop")
    assert stop not in WORDS.decode(WORDS.encode(text, add_special_tokens=False)[: count - 1])


@pytest.mark.parametrize("lead", ["\n\n", " \n\n\n\n\n", "\n" * 40])
def test_blank_lines_before_the_first_visible_character_do_not_end_a_row(lead: str) -> None:
    assert run_row(lead + "Step 1: a.\n\nStep 2", ("\n\n",))[:2] == (lead + "Step 1: a.", "stop")


def test_the_earliest_of_several_stops_cuts() -> None:
    assert run_row("Step 1: a.\nStep 2: b.\n\n", ("\n\n", "\nStep 2"))[:2] == ("Step 1: a.", "stop")


def test_a_row_ends_at_its_own_limit() -> None:
    assert run_row("Step 1: Compute and so on and on", ("\n\n",), limit=4)[1:] == ("length", 4)


def test_an_end_token_ends_a_row_and_is_counted() -> None:
    ids = [*WORDS.encode("Step 1", add_special_tokens=False), 1]
    done = complete([*ids, 0, 0], [[-1.0]] * (len(ids) + 2), Draw(0), WORDS, [1])
    assert (done.text, done.finish, done.token_ids, done.generated) == ("Step 1", "eos", tuple(ids), len(ids))


def test_tokens_after_a_cut_are_left_out() -> None:
    ids = WORDS.encode("a.\n\nStep 2: b", add_special_tokens=False)
    done = complete(ids, [[-1.0]] * len(ids), Draw(0, stops=("\n\n",)), WORDS, [1])
    assert WORDS.decode(done.token_ids).rstrip("\n") == "a."
    assert len(done.token_ids) < done.generated == len(ids)
