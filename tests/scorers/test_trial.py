"""A PRM gives each path the score it gives it alone, by a slower way where it must, or refuses before a question."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import pytest
from transformers import LlavaForConditionalGeneration, Qwen2ForCausalLM

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.inference.slots.reader import SlotReader
from atomthink_plugin.scorers.prm_head import prm_head
from atomthink_plugin.scorers.prm_token import TokenPrm, prm_token
from tests.scorers.shared import PATHS, scores
from tests.scorers.test_prefix_cache import KINDS
from tests.tiny_models import causal_prm, folder, head_prm, llava, t5gemma2

TAGS = {"tag": "</s>", "good": "<+>", "bad": "<->"}
Forward = Callable[..., Any]
Wrap = Callable[[Forward, Any, dict[str, Any]], Any]


def replace_forward(
    monkeypatch: pytest.MonkeyPatch, kind: Any, wrap: Callable[[Forward, Any, dict[str, Any]], Any]
) -> None:
    real = kind.forward

    @functools.wraps(real)
    def forward(self: Any, **named: Any) -> Any:
        return wrap(real, self, named)

    monkeypatch.setattr(kind, "forward", forward)


def sees_padding(real: Forward, model: Any, named: dict[str, Any]) -> Any:
    """Attends to every token before, padding included."""
    return real(model, **{name: value for name, value in named.items() if name != "attention_mask"})


def depends_on_the_width(real: Forward, model: Any, named: dict[str, Any]) -> Any:
    """Reads the end of the padded row at every token."""
    output = real(model, **named)
    output.logits[..., model.config.vocab_size // 2 :] += 0.01 * named["input_ids"].shape[1]
    return output


def load(**arguments: Any) -> TokenPrm:
    return prm_token(str(folder(causal_prm)), device="cpu", **arguments)


@pytest.fixture(scope="module")
def alone() -> list[float]:
    """Scores of each path alone, before anything is replaced."""
    return [score for path in PATHS for score in scores(load(cache_gib=0), [path])]


@pytest.mark.parametrize(("make", "build", "arguments"), KINDS)
def test_prms_that_need_no_fallback_keep_their_caches_and_their_batches(
    make: Any, build: Any, arguments: dict[str, Any], caplog: Any
) -> None:
    scorer = make(str(folder(build)), device="cpu", **arguments)
    assert scorer._reader is not None
    assert scorer._reader.tree.size == 0
    assert not scorer._alone
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_prm_that_sees_padding_is_read_where_none_is(monkeypatch: pytest.MonkeyPatch, alone: list[float]) -> None:
    replace_forward(monkeypatch, Qwen2ForCausalLM, sees_padding)
    scorer = load()
    assert isinstance(scorer._reader, SlotReader)
    assert not scorer._alone
    assert scores(scorer, PATHS) == pytest.approx(alone, abs=1e-5)


def test_a_prm_whose_scores_depend_on_the_batch_reads_each_path_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_forward(monkeypatch, Qwen2ForCausalLM, depends_on_the_width)
    scorer = load(good=" +", bad="x")
    expected = [score for path in PATHS for score in scores(scorer, [path])]
    assert scorer._alone
    assert scores(scorer, PATHS) == pytest.approx(expected, abs=1e-5)


def test_a_prm_that_scores_nothing_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(real: Forward, model: Any, named: dict[str, Any]) -> Any:
        raise RuntimeError("mat1 and mat2 cannot be multiplied\nAnd more lines.")

    replace_forward(monkeypatch, LlavaForConditionalGeneration, broken)
    with pytest.raises(AtomThinkError, match="mat1 and mat2") as caught:
        prm_token(str(folder(llava)), device="cpu", format="continue", **TAGS)
    assert "\n" not in str(caught.value)


def test_an_encoder_decoder_is_refused() -> None:
    with pytest.raises(AtomThinkError, match=r"prm=.*'t5gemma2'"):
        prm_token(str(folder(t5gemma2)), device="cpu", format="continue", **TAGS)


def test_a_path_that_the_prm_cannot_read_has_a_reason_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = prm_head(str(folder(head_prm)), device="cpu")
    replace_forward(monkeypatch, type(scorer._checkpoint.model), lambda *given: [][0])
    with pytest.raises(AtomThinkError, match=r"head_prm.*0 images, \d+ tokens"):
        scores(scorer, PATHS[:1])
