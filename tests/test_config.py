"""What a user can type, and what is said when it cannot be used."""

from __future__ import annotations

import re
from typing import Any

import pytest

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.config import Plan, plan

PATHS: dict[str, Any] = {"pretrained": "some/model"}


def planned(**typed: Any) -> Plan:
    return plan("transformers", {**PATHS, **typed})


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ({"thinking": "fast"}, "`thinking=fast`: Input should be 'direct', 'cot', 'quick' or 'slow'"),
        ({"thinking": "slow", "search": "beem", "scorer": "confidence"}, "did you mean `beam`"),
        ({"thinking": "slow", "search": "mcts", "scorer": "confidence"}, "valid: majority, weighted, best_of_n"),
        ({"thinking": "slow"}, "pass `prm=CHECKPOINT`, or `scorer=confidence`"),
        ({"thinking": "slow", "scorer": "prm_magic"}, "`scorer=prm_magic` is unknown"),
        ({"thinking": "slow", "scorer": "prm_token"}, "`prm=` is missing"),
        ({"search": "beam"}, "`search=beam` goes with thinking=slow, and this run has `thinking=quick`"),
        ({"beams": 2}, "`beams` goes with search=beam"),
        ({"thinking": "slow", "search": "majority", "candidates": 3}, "goes with search=greedy or search=beam"),
        ({"temprature": 0.2}, "`temprature` (did you mean `temperature`?)"),
        ({"thinking": "slow", "scorer": "confidence", "aggregate": "max"}, "'last', 'min', 'mean' or 'prod'"),
        ({"thinking": "slow", "scorer": "confidence", "beams": 0}, "`beams=0`: Input should be greater than"),
        ({"thinking": "slow", "scorer": "confidence", "beams": "two"}, "`beams=two`"),
        ({"temperature": -1}, "`temperature=-1`"),
        ({"top_p": 0}, "`top_p=0`"),
        ({"format": "json"}, "`format=json` is unknown; valid: continue, atomic"),
        ({"max_steps": 0, "step_tokens": 0}, "`max_steps=0`: .*; `step_tokens=0`|`step_tokens=0`: .*; `max_steps=0`"),
    ],
)
def test_an_argument_that_cannot_be_used_is_named_with_the_way_out(typed: dict[str, Any], message: str) -> None:
    with pytest.raises(AtomThinkError) as caught:
        planned(**typed)
    assert re.search(message if "|" in message else re.escape(message), str(caught.value))


def test_unknown_arguments_are_named_all_at_once_with_the_valid_ones() -> None:
    with pytest.raises(AtomThinkError, match=r"`one`.*`two`.*Valid here: .*max_new_tokens.*pretrained"):
        planned(one=1, two=2)


def test_a_missing_checkpoint_is_an_argument_error() -> None:
    with pytest.raises(AtomThinkError, match="`pretrained=` is missing"):
        plan("transformers", {})


def test_strings_become_what_the_search_declares() -> None:
    typed = {"thinking": "slow", "scorer": "confidence", "beams": "4", "aggregate": "prod", "seed": "7"}
    chosen = planned(**typed)
    assert chosen.identity["search"] == {"name": "beam", "beams": 4, "aggregate": "prod"}
    assert chosen.settings.sampling.seed == 7


def test_searches_bring_their_published_temperatures_and_the_user_overrides_them() -> None:
    slow = {"thinking": "slow", "scorer": "confidence"}
    beam = planned(**slow).settings.sampling
    assert [beam.temperature_of(i) for i in range(4)] == [0.0, 0.5, 1.0, 1.0]
    assert planned(**slow, search="majority").settings.sampling.temperature_of(5) == 1.0
    assert planned().settings.sampling.temperature_of(0) == 0.0
    warm = planned(**slow, temperature="0.2").settings.sampling
    assert [round(warm.temperature_of(i), 6) for i in range(3)] == [0.2, 0.7, 1.0]


def test_what_changes_results_changes_the_identity_and_nothing_else_does() -> None:
    base = planned(thinking="slow", scorer="confidence").identity
    changes = ({"seed": 1}, {"beams": 3}, {"top_p": 0.9}, {"max_steps": 5}, {"format": "atomic"}, {"search": "greedy"})
    for typed in changes:
        assert planned(**({"thinking": "slow", "scorer": "confidence"} | typed)).identity != base
    for typed in ({"chat_template": "a.jinja"}, {"dtype": "bfloat16"}):
        assert planned(thinking="slow", scorer="confidence", **typed).identity != base
    unchanged = {"concurrency": 3, "journal": "off", "on_error": "raise", "batch_size": 2, "device": "cpu"}
    same = planned(thinking="slow", scorer="confidence", **unchanged)
    assert same.identity == base


def test_the_harness_writes_none_as_a_string() -> None:
    assert planned(budget_calls="None").settings.budget_calls is None


def test_a_models_own_defaults_yield_to_the_user_and_to_runs_they_mean_nothing_in() -> None:
    defaults = {"pretrained": "embedded", "beams": 5, "prm_dtype": "float32", "seed": 3}
    assert plan("transformers", {}, defaults).settings.sampling.seed == 3
    slow = plan("transformers", {"thinking": "slow", "scorer": "confidence", "seed": 4}, defaults)
    assert (slow.identity["search"]["beams"], slow.settings.sampling.seed) == (5, 4)
