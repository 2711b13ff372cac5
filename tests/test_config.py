"""What a user can type, and what is said when it cannot be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from atomthink_plugin import config
from atomthink_plugin.api import AtomThinkError, Choice, Format, Message, Question, Search, SearchKind, SearchTree
from atomthink_plugin.api import Path as Chain
from atomthink_plugin.config import Plan, plan
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.model_adapters.tiny import TINY_ARGUMENTS
from atomthink_plugin.plugins.registry import registry
from atomthink_plugin.scorers.profile_catalogue import profile_text
from tests.tiny_models import folder, head_prm

PATHS: dict[str, Any] = {"pretrained": "some/model"}


def debate() -> Search:
    """A search with roles."""

    async def search(tree: SearchTree) -> Choice:
        return Choice(tree.root, 0.0, "final")

    return search


DEBATE = SearchKind(debate, scored=False, roles=("judge",), optional_roles=("summary",), tops=3)


@pytest.fixture(autouse=True)
def offers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is installed, with searches of a plugin: one with roles, one with a format of its own."""
    own = {"debate": DEBATE, "tagged": SearchKind(debate, scored=False, format="atomic")}
    offers = replace(registry(), searches={**registry().searches, **own})
    monkeypatch.setattr("atomthink_plugin.config.registry", lambda: offers)


def planned(**typed: Any) -> Plan:
    return plan("transformers", {**PATHS, **typed})


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ({"thinking": "fast"}, "`thinking=fast` direct cot quick slow"),
        ({"thinking": "slow", "search": "beem", "scorer": "confidence"}, "`search=beem` `beam`"),
        ({"thinking": "slow", "search": "puct", "scorer": "confidence"}, "`search=puct` majority weighted best_of_n"),
        ({"thinking": "slow"}, "`prm=CHECKPOINT` `scorer=confidence`"),
        ({"thinking": "slow", "scorer": "prm_magic"}, "`scorer=prm_magic` prm_token"),
        ({"thinking": "slow", "scorer": "prm_token"}, "`prm=`"),
        ({"search": "beam"}, "`search=beam` thinking=slow `thinking=quick`"),
        ({"beams": 2}, "`beams` search=beam"),
        ({"thinking": "slow", "search": "majority", "candidates": 3}, "`candidates` search=greedy search=beam"),
        ({"temprature": 0.2}, "`temprature` `temperature`"),
        ({"thinking": "slow", "scorer": "confidence", "aggregate": "max"}, "`aggregate=max` last min mean prod"),
        ({"thinking": "slow", "scorer": "confidence", "beams": 0}, "`beams=0`"),
        ({"thinking": "slow", "scorer": "confidence", "beams": "two"}, "`beams=two`"),
        ({"thinking": "slow", "scorer": "confidence", "search": "annealed_beam", "drop": "inf"}, "`drop=inf`"),
        ({"thinking": "slow", "search": "mcts", "exploration": "inf"}, "`exploration=inf`"),
        ({"thinking": "slow", "search": "swires", "scorer": "confidence", "format": "mini"}, "`format=stages`"),
        ({"temperature": -1}, "`temperature=-1`"),
        ({"top_p": 0}, "`top_p=0`"),
        ({"prm": "some/prm"}, "`prm=some/prm` thinking=slow weighted best_of_n"),
        ({"thinking": "direct", "scorer": "prm_token"}, "`scorer=prm_token` `thinking=direct`"),
        ({"thinking": "slow", "search": "majority", "prm": "p"}, "`prm=p` weighted `search=majority`"),
        ({"thinking": "slow", "search": "majority", "scorer": "confidence"}, "`scorer=confidence` `search=majority`"),
        ({"thinking": "slow", "search": "majority", "scorer": "typo"}, "`scorer=typo` prm_token"),
        ({"scorer": "confidence", "prm": "p"}, "`scorer=confidence` `prm=p`"),
        ({"revision": True}, "`revision=True`"),
        ({"journal": True}, "`journal=True`"),
        ({"format": "json"}, "`format=json` continue atomic"),
        ({"max_steps": 0, "step_tokens": 0}, "`max_steps=0` `step_tokens=0`"),
        ({"format_instruction": "Go.", "format": "atomic"}, "`format_instruction` format=continue thinking=cot"),
        ({"format_instruction": True}, "`format_instruction=True`"),
        ({"judge_pretrained": "other/model"}, "`judge_pretrained` search=debate"),
        ({"thinking": "cot", "summary_base_url": "http://x/v1"}, "`summary_base_url` search=debate"),
    ],
)
def test_an_argument_that_cannot_be_used_is_named_with_what_can(typed: dict[str, Any], named: str) -> None:
    with pytest.raises(AtomThinkError) as caught:
        planned(**typed)
    missing = [name for name in named.split() if name not in str(caught.value)]
    assert not missing, str(caught.value)


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
    scored = mode["thinking"] == "slow" and registry().searches[mode.get("search", "beam")].scored
    assert (chosen.scorer is not None) == scored


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


def prm_folder(folder: Path, **section: object) -> str:
    """A checkpoint's folder, as far as naming its scorer reads it."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2", **section}))
    return str(folder)


def test_a_numeric_revision_does_not_hinder_the_detection_of_the_scorer(tmp_path: Path) -> None:
    prm = prm_folder(tmp_path / "prm", atomthink_prm={"kind": "head"})
    chosen = planned(thinking="slow", prm=prm, prm_revision=1234)
    assert (chosen.identity["scorer"]["kind"], chosen.identity["scorer"]["revision"]) == ("prm_head", "1234")


def test_a_published_prm_brings_its_aggregate_unless_the_user_names_one(tmp_path: Path) -> None:
    hub = tmp_path / "models--peiyi9979--math-shepherd-mistral-7b-prm" / "snapshots"
    prm = prm_folder(hub / "a")
    chosen = planned(thinking="slow", prm=prm)
    assert (chosen.identity["scorer"]["kind"], chosen.identity["search"]["aggregate"]) == ("prm_profiled", "min")
    named = planned(thinking="slow", prm=prm, aggregate="mean").identity["search"]
    assert named == planned(thinking="slow", prm=prm, aggregate="mean", prm_profile="math_psa").identity["search"]
    assert named["aggregate"] == "mean"
    assert "aggregate" not in planned(thinking="slow", prm=prm, prm_profile="math_psa").identity["search"]
    assert "aggregate" not in planned(thinking="slow", search="dvts", scorer="confidence").identity["search"]


class Terse(Continue):
    """What a plugin may offer: neither a dataclass of its own nor a repr that says the same in every process."""

    def __repr__(self) -> str:
        return object.__repr__(self)


class Plain:
    """A format that is an ordinary class."""

    def __init__(self, words: int = 3) -> None:
        self.instruction = f"At most {words} words."

    render = Continue.render
    unit = Continue.unit
    answer = Continue.answer


@dataclass(frozen=True)
class Worded(Continue):
    """A format with a setting of its own."""

    instruction: str = "Go on."


def planned_with(monkeypatch: pytest.MonkeyPatch, **formats: Callable[[], Format]) -> list[Plan]:
    """A plan per format, in a registry that has them."""
    current = config.registry()
    offers = replace(current, formats={**current.formats, **formats})
    monkeypatch.setattr("atomthink_plugin.config.registry", lambda: offers)
    return [planned(format=name) for name in formats]


def test_the_arguments_of_an_ordinary_class_change_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    (three,) = planned_with(monkeypatch, mine=Plain)
    five = planned(format="mine", format_words="5")
    assert isinstance(five.format, Plain)
    assert five.format.instruction == "At most 5 words."
    assert five.identity != three.identity


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


@pytest.mark.parametrize("thinking", ["quick", "cot"])
def test_users_give_a_format_its_arguments(thinking: str) -> None:
    chosen = planned(thinking=thinking, format_instruction="Explain it to a child.")
    (asked,) = chosen.format.render(Chain(Question("q", (Message("user", ("Why?",)),)))).messages
    assert asked.parts[-1] == "\nExplain it to a child."
    assert chosen.identity != planned(thinking=thinking).identity


def test_the_users_format_wins_over_the_searchs_and_that_over_the_models() -> None:
    def name(typed: dict[str, Any], **defaults: Any) -> str:
        found: str = plan("transformers", typed, {**PATHS, **defaults}).identity["format"]["name"]
        return found

    tagged = {"thinking": "slow", "search": "tagged"}
    assert name({}) == name({"format": "None"}) == "continue"
    assert name(tagged, format="continue") == name({**tagged, "format": None}, format="continue") == "atomic"
    assert name({**tagged, "format": "continue"}, format="atomic") == "continue"
    assert name({"thinking": "slow", "search": "majority"}, format="atomic") == "atomic"


def test_a_factory_that_makes_an_outdated_format_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        stepwise = True

    with pytest.raises(AtomThinkError, match=r"`format=mine`.*`stepwise`.*`unit"):
        planned_with(monkeypatch, mine=lambda: Old())  # type: ignore[arg-type, return-value]


def test_a_template_in_the_home_folder_counts_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "t.jinja").write_text("one")
    first = planned(chat_template="~/t.jinja").identity
    assert planned(chat_template=str(tmp_path / "t.jinja")).identity == first
    (tmp_path / "t.jinja").write_text("two")
    assert planned(chat_template="~/t.jinja").identity != first


def test_a_profile_of_the_users_own_counts_by_its_content(tmp_path: Path) -> None:
    text = profile_text("math_shepherd")
    prm = prm_folder(tmp_path / "prm")
    for name, licence in (("a", "MIT"), ("b", "MIT"), ("c", "none")):
        (tmp_path / f"{name}.yaml").write_text(text.replace("see the model card", licence))
    one, same, other = (
        planned(thinking="slow", prm=prm, prm_profile=str(tmp_path / f"{name}.yaml")).identity for name in "abc"
    )
    assert one == same != other


def test_a_checkpoint_at_home_counts_by_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "prm").symlink_to(folder(head_prm))
    slow = {"thinking": "slow", "scorer": "prm_head"}
    near = planned(**slow, pretrained="~/model", prm="~/prm").identity
    assert near == planned(**slow, pretrained=f"{tmp_path}/model", prm=f"{tmp_path}/prm").identity
    with pytest.raises(AtomThinkError, match="prm_profile="):  # the config.json at home was read
        planned(thinking="slow", prm="~/prm")


def debated(policy: str = "transformers", defaults: dict[str, Any] | None = None, **typed: Any) -> Plan:
    return plan(policy, {**PATHS, "thinking": "slow", "search": "debate", **typed}, defaults)


def test_a_role_is_given_by_its_prefix_and_is_of_the_runs_kind() -> None:
    chosen = debated(dtype="float32", judge_pretrained="other/model", judge_revision=12)
    assert chosen.roles["judge"].kind == "transformers"
    assert chosen.roles["judge"].arguments == {"pretrained": "other/model", "revision": "12"}
    assert chosen.roles["summary"] is chosen.policy
    assert chosen.identity["roles"] == {
        "judge": {"name": "transformers", "pretrained": "other/model", "revision": "12"}
    }
    assert chosen.settings.sampling.tops == 3
    assert planned().settings.sampling.tops == 0


def test_a_search_that_does_without_a_scorer_asks_for_the_likeliest_tokens_only_without_one() -> None:
    assert planned(thinking="slow", search="mcts").settings.sampling.tops == 5
    assert planned(thinking="slow", search="mcts", scorer="confidence").settings.sampling.tops == 0
    own = {**PATHS, "thinking": "slow", "search": "mcts", "prm": "None"}
    without = plan("transformers", own, {"prm": "the/models/own"})
    assert (without.settings.sampling.tops, without.scorer) == (5, None)


def test_a_role_with_an_address_is_served_unless_its_policy_is_named() -> None:
    served = debated(judge_pretrained="m", judge_base_url="http://one/v1").roles["judge"]
    assert (served.kind, served.arguments["base_url"]) == ("openai", "http://one/v1")
    assert debated(judge_pretrained="m", judge_policy="openai").roles["judge"].kind == "openai"
    assert debated(judge_pretrained="m", judge_policy="vllm").roles["judge"].kind == "vllm"
    with pytest.raises(AtomThinkError, match=r"`judge_base_url`.*judge_policy=openai"):
        debated(judge_pretrained="m", judge_base_url="http://one/v1", judge_policy="vllm")


def test_a_role_shares_where_and_in_which_batches_the_run_computes() -> None:
    line = {"batch_size": 4, "device": "cpu", "prm_batch_size": 4, "prm_device": "cpu", "pretrained": "embedded"}
    judge = debated(defaults=line, judge_pretrained="m").roles["judge"]
    assert judge.arguments == {"pretrained": "m", "batch_size": 4, "device": "cpu"}
    judge = debated(defaults=line, judge_pretrained="m", judge_batch_size=2).roles["judge"]
    assert judge.arguments["batch_size"] == 2
    judge = debated("openai", base_url="http://one/v1", judge_pretrained="m").roles["judge"]
    assert judge.arguments == {"pretrained": "m", "base_url": "http://one/v1"}
    elsewhere = debated("openai", base_url="http://one/v1", judge_pretrained="m", judge_base_url="http://two/v1")
    assert elsewhere.roles["judge"].arguments["base_url"] == "http://two/v1"


def test_a_role_that_is_the_runs_policy_changes_nothing() -> None:
    same = debated(judge_pretrained="some/model", summary_pretrained="some/model")
    assert same.roles["judge"] == same.roles["summary"] == same.policy
    assert same.identity == debated(judge_pretrained="some/model").identity
    assert same.identity["roles"] == {}
    assert debated(judge_pretrained="some/model", judge_dtype="float32").roles["judge"] != same.policy


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ({}, "`judge_pretrained=` `search=debate` 'judge' `judge_policy=` `judge_base_url=`"),
        ({"judge_pretrained": "None"}, "`judge_pretrained=`"),
        ({"judge_pretraned": "m"}, "`judge_pretraned` `judge_pretrained`"),
        ({"jugde_pretrained": "m"}, "`jugde_pretrained` `judge_pretrained`"),
        ({"judge_base_url": "http://one/v1"}, "`judge_pretrained=` 'judge'"),
        ({"judge_policy": "magic"}, "`judge_policy=magic` transformers openai"),
        ({"judge_policy": "lmms"}, "`judge_base=`"),
        ({"judge_pretrained": "m", "judge_batch_size": "many"}, "`judge_batch_size=many`"),
        ({"judge_pretrained": "m", "judge_tensor_parallel_size": 2}, "`judge_tensor_parallel_size` judge_policy=vllm"),
        ({"judge_pretrained": "m", "summary_revision": "main"}, "`summary_pretrained=` 'summary'"),
        ({"judge_pretrained": "m", "policy_pretrained": "m"}, "`policy_pretrained`"),
    ],
)
def test_a_role_that_cannot_be_used_is_named_as_it_is_typed(typed: dict[str, Any], named: str) -> None:
    with pytest.raises(AtomThinkError) as caught:
        debated(**typed)
    missing = [name for name in named.split() if name not in str(caught.value)]
    assert not missing, str(caught.value)


def test_a_role_that_cannot_be_loaded_is_named_as_it_is_typed(tmp_path: Path) -> None:
    chosen = debated(judge_pretrained=str(tmp_path / "nothing"))
    with pytest.raises(AtomThinkError, match=r"'judge'.*judge_pretrained=") as caught:
        chosen.roles["judge"]()
    assert " pretrained=" not in str(caught.value)


def test_the_keys_of_roles_are_no_arguments_and_no_part_of_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment-4711")
    chosen = debated(judge_pretrained="m", judge_base_url="http://one/v1")
    assert "4711" not in str(chosen.identity)
    with pytest.raises(AtomThinkError, match="`judge_api_key`") as caught:
        debated(judge_pretrained="m", judge_api_key="sk-typed-by-the-user")
    assert "sk-typed" not in str(caught.value)
