"""Building a plan: policies are loaded once, roles fall back to the policy, and errors name the argument."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest

from atomthink_plugin.api import AtomThinkError, Choice, Search, SearchKind, SearchTree
from atomthink_plugin.config import plan
from atomthink_plugin.plugins.registry import registry
from atomthink_plugin.runtime.build import build, open_journal
from atomthink_plugin.testing import ScriptedPolicy


def debate() -> Search:
    async def search(tree: SearchTree) -> Choice:
        return Choice(tree.root, 0.0, "final")

    return search


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The loaded checkpoints. Policies are scripted."""
    made: list[str] = []

    def scripted(pretrained: str, *, device: str = "cpu") -> ScriptedPolicy:
        made.append(pretrained)
        if pretrained == "exits":
            sys.exit("no licence")
        if pretrained == "broken":
            raise AtomThinkError(f"pretrained={pretrained!r} is broken: pass another `device=`")
        return ScriptedPolicy({}, identity=pretrained)

    kind = SearchKind(debate, scored=False, roles=("judge", "critic"), optional_roles=("summary",))
    offers = replace(registry(), policies={"scripted": scripted}, searches={"debate": kind})
    monkeypatch.setattr("atomthink_plugin.config.registry", lambda: offers)
    return made


def planned(**typed: Any) -> Any:
    return plan("scripted", {"thinking": "slow", "search": "debate", "pretrained": "own", **typed})


def test_equal_plans_share_one_policy(made: list[str]) -> None:
    runner = build(planned(judge_pretrained="other", critic_pretrained="other"))
    assert made == ["own", "other"]
    assert runner.roles["judge"] is runner.roles["critic"]
    assert runner.roles["summary"] is runner.policy
    assert set(runner.roles) == {"judge", "critic", "summary"}


def test_a_role_with_the_plan_of_the_run_shares_its_policy(made: list[str]) -> None:
    runner = build(
        planned(
            judge_pretrained="own",
            critic_pretrained="own",
            critic_device="cuda",
            summary_device="cpu",
            summary_pretrained="own",
        )
    )
    assert made == ["own", "own", "own"]  # other arguments need another policy
    assert runner.roles["judge"] is runner.policy
    assert runner.roles["critic"] is not runner.policy


@pytest.mark.parametrize(("name", "reason"), [("exits", "no licence"), ("broken", "`judge_device=`")])
def test_a_role_that_cannot_be_loaded_is_named(made: list[str], name: str, reason: str) -> None:
    with pytest.raises(AtomThinkError, match="'judge'") as caught:
        build(planned(judge_pretrained=name, critic_pretrained="own"))
    assert reason in str(caught.value)
    assert " pretrained=" not in str(caught.value)


def test_a_runs_own_policy_keeps_its_message(made: list[str]) -> None:
    with pytest.raises(AtomThinkError, match=r"^pretrained='broken'"):
        build(planned(pretrained="broken", judge_pretrained="own", critic_pretrained="own"))


def test_journals_of_other_roles_are_other_journals(made: list[str], tmp_path: Any) -> None:
    folders = set()
    for judge in ("own", "other", "third"):
        chosen = planned(judge_pretrained=judge, critic_pretrained="own", journal=str(tmp_path))
        journal = open_journal(chosen, build(chosen), "test")
        assert journal is not None
        folders.add(journal.folder)
        journal.close()
    assert len(folders) == 3
