"""Builds a runner and its journal from a plan."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any, Final

from atomthink_plugin.api import Message, Path, Policy, Question, Step
from atomthink_plugin.config import Plan
from atomthink_plugin.exits import no_exit
from atomthink_plugin.policies import PolicyPlan
from atomthink_plugin.runtime.format_calls import check_policy, prompt_after
from atomthink_plugin.runtime.journal import Journal
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.version import __version__

log = logging.getLogger(__name__)

_CRITIC: Final = "the scorer's critic"
"""Where the policies of a run have the one that its scorer asks. No role of a search has such a name."""

_QUESTION: Final = Path(Question("check", (Message("user", ("What is 1 + 1?",)),)))
_TRIED: Final = (_QUESTION, _QUESTION.extend(Step("Step 1: Add the two numbers.")))
"""Paths for checking, before the first question, that a policy can answer the prompts of the format."""


def build(plan: Plan) -> Runner:
    """Loads the policies and the scorer of a plan. The runner has no journal yet.

    Raises:
        AtomThinkError: A checkpoint cannot be loaded or used. The error names the argument and what to do.
    """
    roles = _policies(plan)
    policy = roles.pop("policy")
    critic = (roles.pop(_CRITIC),) if plan.critic is not None else ()
    with no_exit(f"the scorer {plan.identity['scorer']['kind']!r}"):
        scorer = plan.scorer(*critic) if plan.scorer is not None else None
    check_policy(plan.format, policy)
    if (check := getattr(policy, "check_prompts", None)) is not None:
        check([prompt_after(plan.format, path) for path in _TRIED], plan.settings.sampling)
    return Runner(
        policy=policy,
        scorer=scorer,
        format=plan.format,
        search=plan.search,
        settings=plan.settings,
        concurrency=plan.arguments.concurrency,
        on_error=plan.arguments.on_error,
        roles=roles,
    )


def _policies(plan: Plan) -> dict[str, Policy]:
    """Loads the policies of the run, of each role and of the scorer. Equal plans share one policy."""
    loaded: list[tuple[PolicyPlan, Policy]] = []
    found: dict[str, Policy] = {}
    planned_by_role = {"policy": plan.policy, **plan.roles}
    if plan.critic is not None:
        planned_by_role[_CRITIC] = plan.critic
    for role, planned in planned_by_role.items():
        policy = next((made for other, made in loaded if other == planned), None)
        if policy is None:
            policy = planned()
            loaded.append((planned, policy))
        found[role] = policy
    return found


def open_journal(plan: Plan, runner: Runner, name: str, rank: int = 0) -> Journal | None:
    """Opens the journal of a plan. Returns None for `journal=off`.

    Args:
        plan: The plan. Its identity and those of the loaded models name the folder.
        runner: The built plan.
        name: Readable beginning of the folder's name.
        rank: Index of this process.
    """
    folder = journal_folder(plan.arguments.journal)
    if folder is None:
        return None
    settings: Mapping[str, Any] = {
        "version": __version__,
        "policy_weights": runner.policy.identity,
        "role_weights": {role: policy.identity for role, policy in runner.roles.items()},
        "scorer_weights": runner.scorer.identity if runner.scorer is not None else None,
        **plan.identity,
    }
    return Journal(folder, f"{name}-{plan.search_name}", settings, rank)


def journal_folder(journal: str | None) -> FilePath | None:
    """Returns the folder of all journals: the argument or a folder in the user's cache. None for `off`."""
    if journal == "off":
        return None
    if journal is not None:
        return FilePath(journal).expanduser()
    return cache_folder() / "journal"


def cache_folder() -> FilePath:
    """Returns the plugin's folder in the user's cache."""
    return FilePath(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "atomthink"
