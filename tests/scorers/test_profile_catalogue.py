"""Profiles are found by name and hub id, suggested by what a checkpoint looks like, and checked as a whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.plugins import faults
from atomthink_plugin.scorers.detect import detect_prm
from atomthink_plugin.scorers.fingerprints import suggested
from atomthink_plugin.scorers.prm_profile import Profile
from atomthink_plugin.scorers.prm_profiled import required_profile
from atomthink_plugin.scorers.profile_catalogue import PROFILES, all_profiles, profile_named, profile_of

OWN = {
    "names": ["me/my-prm"],
    "layout": {"kind": "tagged", "before": "{question}\n", "step": "{step}{tag}", "tag": "<step>"},
    "read": {"kind": "pair", "good": "yes", "bad": "no"},
    "loader": "causal",
    "licence": "MIT",
    "source": "here",
}


def written(folder: Path, content: object, name: str = "own.yaml") -> str:
    file = folder / name
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return str(file)


def checkpoint(folder: Path, **config: object) -> str:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2", **config}))
    return str(folder)


def test_hub_ids_and_digests_of_the_profiles_differ() -> None:
    profiles = all_profiles()
    ids = [name.lower() for found in profiles.values() for name in found.model.names]
    assert len(ids) == len(set(ids)) > 12
    assert len({found.digest for found in profiles.values()}) == len(profiles)
    assert all(found.model.verified == "transcription" for found in profiles.values())


@pytest.mark.parametrize(
    "prm",
    [
        "Qwen/Qwen2.5-Math-PRM-72B",
        "qwen/qwen2.5-math-prm-72b",
        "/cache/hub/models--Qwen--Qwen2.5-Math-PRM-72B/snapshots/0123abc",
    ],
)
def test_a_checkpoint_is_found_by_its_hub_id(prm: str) -> None:
    found = profile_of(prm)
    assert found is not None
    assert found.name == "qwen2_5_math_prm"
    assert profile_of(prm.replace("-72", "-mine-72")) is None


def test_a_snapshot_folder_is_recognised(tmp_path: Path) -> None:
    prm = checkpoint(tmp_path / "models--RLHFlow--Llama3.1-8B-PRM-Mistral-Data" / "snapshots" / "abc")
    found = detect_prm(prm)
    assert (found.scorer, found.profile and found.profile.name) == ("prm_profiled", "rlhflow_mistral")


def test_the_order_is_the_users_profile_then_the_section_then_the_hub_id(tmp_path: Path) -> None:
    section = {"atomthink_prm": {"kind": "head"}}
    prm = checkpoint(tmp_path / "models--openreasoner--Math-psa" / "snapshots" / "abc", **section)
    assert detect_prm(prm).scorer == "prm_head"
    named = detect_prm(prm, profile="versaprm").profile
    assert named is not None
    assert named.name == "versaprm"


@pytest.mark.parametrize(
    ("folder", "config", "near"),
    [
        ("qwen2.5-math-prm-7b", {}, "qwen2_5_math_prm"),
        ("mine", {"_name_or_path": "peiyi9979/math-shepherd-mistral-7b-prm"}, "math_shepherd"),
        ("mine", {"architectures": ["Qwen2ForProcessRewardModel"]}, "qwen2_5_math_prm"),
        ("mine", {"auto_map": {"AutoModel": "modeling.Qwen2ForProcessRewardModel"}}, "qwen2_5_math_prm"),
    ],
)
def test_what_a_checkpoint_looks_like_only_suggests_profiles(
    folder: str, config: dict[str, object], near: str, tmp_path: Path
) -> None:
    with pytest.raises(AtomThinkError, match=f"prm_profile={near}"):
        detect_prm(checkpoint(tmp_path / folder, **config))


def test_suggestions_are_the_most_alike_first_and_of_any_size(tmp_path: Path) -> None:
    assert suggested("me/math-shepherd-mistral-7b-prm-again", {})[0] == "math_shepherd"
    assert suggested("me/qwen-prm800k-3b", {})[0] == "qwen_prm800k"
    assert "skywork_o1_open_prm" in suggested("me/skywork-o1-open-prm-qwen-2.5-123456.5b", {})
    by_class = {"architectures": ["Qwen2ForProcessRewardModel"]}
    assert suggested("me/math-shepherd-mistral-7b-prm", by_class)[-1] == "math_shepherd"  # after the class
    assert suggested("me/something-else", {"architectures": ["LlamaForCausalLM"]}) == []


def test_a_generative_prm_has_the_scorer_that_asks_it() -> None:
    assert detect_prm("anything", profile="thinkprm_7b").scorer == "prm_judge"
    assert detect_prm("anything", profile="math_psa").scorer == "prm_profiled"


def test_a_name_in_the_cache_may_have_two_dashes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = Path(written(tmp_path, OWN | {"names": ["me/my--prm"]}))
    monkeypatch.setitem(PROFILES, "mine", file)
    found = profile_of("/cache/hub/models--me--my--prm/snapshots/0123abc")
    assert found is not None
    assert found.name == "mine"


def test_names_of_weights_suggest_profiles(tmp_path: Path) -> None:
    prm = checkpoint(tmp_path / "mine")
    (tmp_path / "mine" / "model.safetensors.index.json").write_text('{"weight_map": {"v_head.summary.bias": "a"}}')
    with pytest.raises(AtomThinkError, match="prm_profile=skywork_o1_open_prm"):
        detect_prm(prm)


def test_a_checkpoint_that_looks_like_none_is_refused(tmp_path: Path) -> None:
    prm = checkpoint(tmp_path / "something-else", architectures=["Qwen2ForTokenClassification"])
    with pytest.raises(AtomThinkError, match="Qwen2ForTokenClassification"):
        detect_prm(prm)
    with pytest.raises(AtomThinkError, match="prm_profile="):
        required_profile(prm, None)


def test_an_unknown_name_is_answered_with_those_like_it() -> None:
    with pytest.raises(AtomThinkError, match="did you mean math_shepherd"):
        profile_named("math_sheperd")


def test_a_file_of_the_users_own_is_a_profile(tmp_path: Path) -> None:
    found = profile_named(written(tmp_path, OWN))
    assert isinstance(found.model, Profile)
    assert found.model.layout.tag == "<step>"  # type: ignore[union-attr]
    assert found.name == "own.yaml"
    assert found.digest != profile_named(written(tmp_path, OWN | {"threshold": 0.7})).digest


def test_all_faults_of_a_file_are_reported_at_once(tmp_path: Path) -> None:
    wrong = OWN | {
        "loader": "magic",
        "threshold": 1.5,
        "layout": OWN["layout"] | {"before": "{steps}", "step": "{tag}", "hue": 1},  # type: ignore[operator]
        "reed": {},
    }
    file = written(tmp_path, wrong)
    with pytest.raises(AtomThinkError) as error:
        profile_named(file)
    assert file in str(error.value)
    for field in ("loader", "threshold", "layout.before", "layout.step", "layout.hue", "reed"):
        assert field in str(error.value)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"layout": OWN["layout"] | {"tag": ""}}, "layout"),  # type: ignore[operator]
        ({"layout": OWN["layout"] | {"before": "Solve it."}}, "layout"),  # type: ignore[operator]
        ({"layout": OWN["layout"] | {"role": "user", "pieces": True}}, "layout"),  # type: ignore[operator]
        ({"layout": OWN["layout"] | {"system": "Be brief."}}, "layout"),  # type: ignore[operator]
        ({"layout": {"kind": "turns", "first": "{step}", "history": "+"}}, "layout"),
        ({"read": {"kind": "classes", "count": 2, "good": [2]}}, "read"),
        ({"loader": "value_head"}, "value_head"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(change: dict[str, object], field: str, tmp_path: Path) -> None:
    assert isinstance(profile_named(written(tmp_path, OWN)).model, Profile)
    with pytest.raises(AtomThinkError, match=field):
        profile_named(written(tmp_path, OWN | change, "wrong.yaml"))


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "word"])
def test_a_file_that_is_no_profile_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(text)
    with pytest.raises(AtomThinkError, match=r"own\.yaml"):
        profile_named(str(file))
    with pytest.raises(AtomThinkError, match=r"missing\.yaml"):
        profile_named(str(tmp_path / "missing.yaml"))


def test_a_plugin_may_offer_files_only(tmp_path: Path) -> None:
    file = Path(written(tmp_path, OWN))
    assert faults.fault("atomthink_prm_profiles", "mine", file) is None
    for offer in (tmp_path / "missing.yaml", str(file), OWN):
        assert faults.fault("atomthink_prm_profiles", "mine", offer)


def test_profiles_of_plugins_are_found_like_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROFILES, "mine", Path(written(tmp_path, OWN)))
    assert profile_named("mine").model.names == ("me/my-prm",)
    found = profile_of("me/my-prm")
    assert found is not None
    assert found.name == "mine"
