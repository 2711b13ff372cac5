"""Steps from vLLM's outputs, from outputs as vLLM gives them."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from atomthink_plugin.model_adapters.vllm_samples import OutputReader, VllmSample

STOPS = ("\n\n", "\nStep 2")
WORDS = {1: "Step", 2: " 1:", 3: " Add", 4: ".\n\n", 5: "\n\n", 6: "\n", 7: " them", 8: "", 9: " 2", 10: "\n\n\n"}
STOP_TOKENS = {token: text for token, text in WORDS.items() if "\n\n" in text}


def decode(ids: Sequence[int]) -> str:
    return "".join(WORDS[token] for token in ids)


def output(ids: Sequence[int], stop: int | str | None = None, finish: str = "stop", **more: Any) -> Any:
    """What vLLM gives for these tokens: its text has neither the stop string nor the token that stopped it."""
    text = decode(ids[:-1] if isinstance(stop, int) else ids)
    text = text[: text.index(stop)] if isinstance(stop, str) else text
    given = {"logprobs": None, "cumulative_logprob": -float(len(ids)), **more}
    return SimpleNamespace(text=text, token_ids=list(ids), finish_reason=finish, stop_reason=stop, **given)


def read(*outputs: Any, **more: Any) -> VllmSample:
    reader = OutputReader(STOPS, STOP_TOKENS, decode, **more)
    sample = VllmSample()
    for one in outputs:
        sample = reader.extended(sample, one)
    return sample


@pytest.mark.parametrize(
    ("ids", "stop"),
    [
        ([1, 2, 3, 4], 4),  # a token that has visible text before the stop string
        ([1, 2, 3, 6, 6], "\n\n"),  # a stop string of two tokens
        ([1, 2, 3, 6, 1, 9], "\nStep 2"),
    ],
)
def test_a_step_has_the_text_before_its_stop_string_and_all_ids(ids: list[int], stop: int | str) -> None:
    sample = read(output(ids, stop))
    assert sample.ended
    assert sample.step.text == "Step 1: Add" + ("." if stop == 4 else "")
    assert sample.step.finish == "stop"
    assert sample.step.token_ids == tuple(ids)
    assert sample.step.logprob == -len(ids)


@pytest.mark.parametrize(
    ("finish", "stop", "said"), [("stop", None, "eos"), ("stop", 8, "eos"), ("length", None, "length")]
)
def test_other_ends_are_no_stop(finish: str, stop: int | None, said: str) -> None:
    sample = read(output([1, 2, 3, 8], stop, finish))
    assert sample.ended
    assert (sample.step.text, sample.step.finish) == ("Step 1: Add", said)


@pytest.mark.parametrize(("blank", "stop"), [([5], 5), ([6, 6], "\n\n"), ([10], 10)])
def test_a_sample_that_stops_before_anything_visible_continues(blank: list[int], stop: int | str) -> None:
    begun = read(output(blank, stop))
    assert not begun.ended
    step = read(output(blank, stop), output([1, 2, 3, 4], 4)).step
    assert step.text.strip() == "Step 1: Add."
    assert step.token_ids == (*blank, 1, 2, 3, 4)
    assert step.logprob == -len(step.token_ids)
    assert step.finish == "stop"


def test_a_stop_string_at_the_first_visible_character_is_part_of_the_step() -> None:
    reader = OutputReader(("Step",), {}, decode)
    begun = reader.extended(VllmSample(), output([1], "Step"))
    assert not begun.ended
    assert reader.extended(begun, output([2, 3], None)).step.text == "Step 1: Add"


def test_a_sample_without_log_probabilities_has_none() -> None:
    assert read(output([1, 2, 4], 4, cumulative_logprob=None)).step.logprob is None
    blank = output([5], 5, cumulative_logprob=None)
    assert read(blank, output([1, 4], 4, cumulative_logprob=None)).step.logprob is None


def listed(*positions: dict[int, float]) -> list[dict[int, Any]]:
    return [{token: SimpleNamespace(logprob=value) for token, value in one.items()} for one in positions]


@pytest.mark.parametrize(
    ("watch", "watched"),
    [([3, 5], (-0.1, -4.0)), ([5, 3], (-4.0, -0.1)), ([3, 99], (-0.1, -6.0)), ([98, 99], ()), ([], ())],
)
def test_a_watched_token_is_found_by_its_id_at_the_first_position(watch: list[int], watched: tuple[float, ...]) -> None:
    given = listed({3: -0.1, 5: -4.0, 11: -6.0}, {7: -0.5})
    step = read(output([3, 7], None, "length", logprobs=given), watch=watch).step
    assert step.watched == watched
    assert step.token_ids == (3, 7)
    assert step.tops == ()


def test_the_likeliest_tokens_of_all_parts_are_kept() -> None:
    first = output([5], 5, logprobs=listed({5: -0.5, 1: -1.5, 2: -2.5}))
    rest = output([1, 2], None, "length", logprobs=listed({1: -3.0, 7: -0.1, 3: -4.0}, {2: -0.2, 3: -2.0, 4: -9.0}))
    assert read(first, rest, tops=2).step.tops == ((-0.5, -0.5, -1.5), (-3.0, -0.1, -3.0), (-0.2, -0.2, -2.0))
