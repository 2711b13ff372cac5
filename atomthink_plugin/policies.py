"""The policies of a run: its own, and one for each role of its search."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from atomthink_plugin.api import AtomThinkError, Policy, SearchKind
from atomthink_plugin.exits import no_exit
from atomthink_plugin.identity import matters
from atomthink_plugin.plugins.arguments import bind, named_as_typed, parameters, pick
from atomthink_plugin.plugins.hookspecs import PolicyFactory
from atomthink_plugin.plugins.old_contract import outdated_policy

SERVED: Final = "openai"
"""The policy that a `base_url` implies."""

_SHARED: Final = ("batch_size", "device", "base_url")
"""Arguments of the run's policy that a role inherits unless the user sets them for the role."""


@dataclass(frozen=True, slots=True)
class PolicyPlan:
    """A checked policy that is not loaded yet; two that are equal are loaded once.

    Attributes:
        kind: Its registered name.
        arguments: Of its factory.
        factory: Loads it.
        names: The arguments as users type them.
        what: What it is, for messages.
    """

    kind: str
    arguments: Mapping[str, Any]
    factory: PolicyFactory = field(compare=False)
    names: Mapping[str, str] = field(compare=False)
    what: str = field(compare=False)

    def __call__(self) -> Policy:
        """Loads the policy.

        Raises:
            AtomThinkError: It cannot be loaded or used; names the argument as it is typed.
        """
        with no_exit(self.what), named_as_typed(self.names, self.what):
            policy = self.factory(**self.arguments)
        if (change := outdated_policy(policy)) is not None:
            raise AtomThinkError(f"{self.what} cannot be used: {change}")
        return policy

    @property
    def identity(self) -> dict[str, Any]:
        """The kind and the arguments that change results."""
        return {"name": self.kind, **matters(self.arguments)}


@dataclass(frozen=True, slots=True)
class PolicyChoice:
    """Which policy the run or a role uses, before its arguments are checked.

    Attributes:
        kind: Its registered name.
        factory: Loads it.
        names: The arguments as users type them.
        role: What it is used for; empty for the run's own policy.
    """

    kind: str
    factory: PolicyFactory
    names: Mapping[str, str]
    role: str = ""

    @property
    def needed(self) -> list[str]:
        """The arguments that have no default, as users type them."""
        declared = inspect.signature(self.factory).parameters
        return [name for name, own in self.names.items() if declared[own].default is inspect.Parameter.empty]

    def plan(self, typed: Mapping[str, Any]) -> PolicyPlan:
        """Returns the policy with the user's arguments.

        Raises:
            AtomThinkError: An argument is missing or has a value that it cannot have.
        """
        arguments = bind(self.factory, typed, self.names, f"the role {self.role!r}" if self.role else "the model")
        what = f"the role {self.role!r} (policy {self.kind!r})" if self.role else f"the policy {self.kind!r}"
        return PolicyPlan(self.kind, arguments, self.factory, self.names, what)


def run_policy(kind: str, policies: Mapping[str, PolicyFactory]) -> PolicyChoice:
    """Returns the run's own policy.

    Raises:
        AtomThinkError: No policy of that name is registered.
    """
    factory: PolicyFactory = pick("policy", kind, policies)
    return PolicyChoice(kind, factory, parameters(factory))


class Roles:
    """The roles of a search, and what a user typed about them.

    Args:
        search: The search's name.
        kind: The search.
        run: The kind of the run's own policy.
        typed: All arguments by name.
        policies: All registered policies.

    Raises:
        AtomThinkError: The policy that `<role>_policy=` names is not registered.
    """

    def __init__(
        self,
        search: str,
        kind: SearchKind,
        run: str,
        typed: Mapping[str, Any],
        policies: Mapping[str, PolicyFactory],
    ) -> None:
        self._search, self._kind, self._typed = search, kind, typed
        self._given = {name for name, value in typed.items() if value not in (None, "None")}
        self._choices = {role: self._choice(role, run, policies) for role in roles_of(kind)}

    @property
    def names(self) -> set[str]:
        """All arguments that may be typed about them."""
        return {name for role in self._choices for name in self._names(role)}

    def plan(self, run: PolicyPlan) -> dict[str, PolicyPlan]:
        """Returns the policy of each role; an optional role that is not given has that of the run.

        Raises:
            AtomThinkError: A required role is not given, or an argument of a role cannot be used.
        """
        return {role: self._plan(role, run) for role in self._choices}

    def _names(self, role: str) -> set[str]:
        return {f"{role}_policy", *self._choices[role].names}

    def _choice(self, role: str, run: str, policies: Mapping[str, PolicyFactory]) -> PolicyChoice:
        kind = run
        if f"{role}_policy" in self._given:
            kind = self._typed[f"{role}_policy"]
        elif f"{role}_base_url" in self._given:
            kind = SERVED
        factory: PolicyFactory = pick(f"{role}_policy", kind, policies)
        return PolicyChoice(kind, factory, parameters(factory, f"{role}_"), role)

    def _plan(self, role: str, run: PolicyPlan) -> PolicyPlan:
        choice = self._choices[role]
        if self._given.isdisjoint(self._names(role)):
            if role in self._kind.optional_roles:
                return run
            needed = "` and `".join(f"{name}=" for name in choice.needed or [f"{role}_policy"])
            raise AtomThinkError(
                f"`{needed}` is missing: `search={self._search}` needs a second model for the role {role!r}. It runs "
                f"in the same way as the policy unless you pass `{role}_policy=` or `{role}_base_url=`"
            )
        shared = {f"{role}_{name}": self._typed[name] for name in _SHARED if name in self._given}
        return choice.plan({**shared, **self._typed})


def roles_of(kind: SearchKind) -> tuple[str, ...]:
    """Returns all roles of a search, the required ones first."""
    return (*kind.roles, *kind.optional_roles)


def role_arguments(kind: SearchKind, policies: Mapping[str, PolicyFactory]) -> dict[str, str]:
    """Returns what users may type about the roles of a search, and with which policies: `judge_policy=openai`."""
    places: dict[str, list[str]] = {}
    for role in roles_of(kind):
        for name, factory in policies.items():
            for argument in ("policy", *parameters(factory)):
                places.setdefault(f"{role}_{argument}", []).append(f"{role}_policy={name}")
    return {argument: " or ".join(where) for argument, where in places.items()}
