"""What a user can type, and what is said when it cannot be used."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from atomthink_plugin.api import AtomThinkError, Format
from atomthink_plugin.config import Plan, plan
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.model_adapters.tiny import TINY_ARGUMENTS
from atomthink_plugin.plugins.registry import registry
from tests.tiny_models import folder, head_prm

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
        ({"prm": "some/prm"}, "`prm=some/prm`: only thinking=slow with search=weighted or search=best_of_n or"),
        ({"thinking": "direct", "scorer": "prm_token"}, "uses a scorer, and this run has `thinking=direct`"),
        ({"thinking": "slow", "search": "majority", "prm": "p"}, "`prm=p`: only thinking=slow with search=weighted"),
        ({"thinking": "slow", "search": "majority", "scorer": "confidence"}, "this run has `search=majority`"),
        ({"thinking": "slow", "search": "majority", "scorer": "typo"}, "`scorer=typo` is unknown; valid: prm_token"),
        ({"scorer": "confidence", "prm": "p"}, "`scorer=confidence` and `prm=p`: only"),
        ({"revision": True}, "`revision=True`: Input should be a valid string"),
        ({"journal": True}, "`journal=True`: Input should be a valid string"),
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
    assert planned(thinking="slow", search="majority").settings.sampling.temperature_of(5) == 1.0
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


@pytest.mark.parametrize(
    "mode",
    [{"thinking": "direct"}, {"thinking": "cot"}, {"thinking": "quick"}, {"thinking": "slow"}]
    + [{"thinking": "slow", "search": name} for name in registry().searches],
)
def test_the_embedded_models_own_prm_is_no_fault_in_a_run_that_scores_nothing(mode: dict[str, str]) -> None:
    chosen = plan("transformers", mode, TINY_ARGUMENTS)
    assert (chosen.scorer is None) == (mode["thinking"] != "slow" or mode.get("search") == "majority")


def test_a_scorer_that_is_named_none_is_not_named() -> None:
    assert plan("transformers", {"prm": None, "scorer": "None"}, TINY_ARGUMENTS).scorer is None


def test_numbers_where_text_is_wanted_are_text() -> None:
    """The harness makes numbers of all values that look like one."""
    typed = {"revision": 12345678, "scorer": "prm_token", "prm": 7, "prm_good": 1, "prm_bad": 0.5}
    identity = planned(thinking="slow", **typed).identity
    assert identity["policy"]["revision"] == "12345678"
    assert {name: identity["scorer"][name] for name in ("prm", "good", "bad")} == {
        "prm": "7",
        "good": "1",
        "bad": "0.5",
    }


def test_a_numeric_revision_does_not_hinder_the_detection_of_the_scorer() -> None:
    chosen = planned(thinking="slow", prm=str(folder(head_prm)), prm_revision=1234)
    assert (chosen.identity["scorer"]["kind"], chosen.identity["scorer"]["revision"]) == ("prm_head", "1234")


class Terse(Continue):
    """What a plugin may offer: neither a dataclass of its own nor a repr that says the same in every process."""

    def __repr__(self) -> str:
        return object.__repr__(self)


class Plain:
    """A format that is an ordinary class."""

    stepwise = True
    render = Continue.render
    answer = Continue.answer


@dataclass(frozen=True)
class Worded(Continue):
    """A format with a setting of its own."""

    instruction: str = "Go on."


def planned_with(monkeypatch: pytest.MonkeyPatch, **formats: Callable[[], Format]) -> list[Plan]:
    """A plan per format, in a registry that has them."""
    offers = replace(registry(), formats={**registry().formats, **formats})
    monkeypatch.setattr("atomthink_plugin.config.registry", lambda: offers)
    return [planned(format=name) for name in formats]


@pytest.mark.parametrize("form", [Plain, Terse])
def test_a_plugins_format_is_known_by_its_name_in_every_process(form: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [planned_with(monkeypatch, mine=form)[0] for _ in range(2)]
    assert kept[0].identity == kept[1].identity
    assert "0x" not in str(kept[0].identity["format"])
    assert kept[0].identity["format"]["name"] == "mine"


def test_formats_that_differ_in_a_setting_differ_in_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = planned_with(monkeypatch, mine=Worded)[0], planned_with(monkeypatch, mine=lambda: Worded("Stop."))[0]
    assert one.identity != two.identity
    assert planned(thinking="direct").identity == planned(thinking="direct", format="atomic").identity


def test_a_template_at_home_counts_by_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "t.jinja").write_text("one")
    first = planned(chat_template="~/t.jinja").identity
    assert planned(chat_template=str(tmp_path / "t.jinja")).identity == first
    (tmp_path / "t.jinja").write_text("two")
    assert planned(chat_template="~/t.jinja").identity != first


def test_a_checkpoint_at_home_counts_by_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "prm").symlink_to(folder(head_prm))
    slow = {"thinking": "slow", "scorer": "prm_head"}
    near = planned(**slow, pretrained="~/model", prm="~/prm").identity
    assert near == planned(**slow, pretrained=f"{tmp_path}/model", prm=f"{tmp_path}/prm").identity
    assert planned(thinking="slow", prm="~/prm").identity["scorer"]["kind"] == "prm_head"
