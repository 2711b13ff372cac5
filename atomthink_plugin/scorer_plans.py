"""From what a user typed about a scorer to a checked scorer that is not loaded yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from atomthink_plugin.api import Policy, Scorer
from atomthink_plugin.identity import matters
from atomthink_plugin.plugins.arguments import bind, convert, parameters, pick
from atomthink_plugin.plugins.hookspecs import PolicyFactory, ScorerFactory
from atomthink_plugin.policies import SERVED, PolicyPlan
from atomthink_plugin.scorers.profile_catalogue import profile_named, profile_of

_PREFIX: Final = "prm_"

_CRITIC: Final = "critic"
"""Parameter of a scorer's factory that is a policy: the scorer asks it for critiques."""

_POLICY: Final = "prm_policy"
"""What users type for the kind of the critic."""

_IN_PROCESS: Final = {"causal": "transformers_text"}
"""Policy that loads a critic in this process, by the loader of its profile."""


@dataclass(frozen=True, slots=True)
class ScorerPlan:
    """A checked scorer without a policy of the run.

    Attributes:
        kind: Its registered name.
        identity: The kind and the arguments that change its scores.
        critic: The policy that a generative scorer asks, None for other scorers.
        factory: Loads it.
        arguments: Of its factory.
    """

    kind: str
    identity: Mapping[str, Any]
    critic: PolicyPlan | None
    factory: ScorerFactory = field(compare=False)
    arguments: Mapping[str, Any] = field(compare=False)

    def make(self, critic: Policy | None = None) -> Scorer:
        """Loads the scorer.

        Args:
            critic: The loaded critic; it is loaded if None.
        """
        if self.critic is None:
            return self.factory(**self.arguments)
        return self.factory(**self.arguments, critic=critic or self.critic())


@dataclass(frozen=True, slots=True)
class ScorerChoice:
    """Which scorer a run uses, before its arguments are checked.

    Attributes:
        kind: Its registered name.
        factory: Loads it.
        own: The scorer's own arguments, as users type them, and the parameters that they set.
        critic: Registered name and factory of the policy that it asks, None for other scorers.
    """

    kind: str
    factory: ScorerFactory
    own: Mapping[str, str]
    critic: tuple[str, PolicyFactory] | None = None

    @property
    def names(self) -> set[str]:
        """All arguments that may be typed about it."""
        return {*self.own, *([_POLICY, *self._critic_names] if self.critic else [])}

    @property
    def _critic_names(self) -> dict[str, str]:
        return {} if self.critic is None else _names_of_critic(self.critic[1])

    def plan(self, typed: Mapping[str, Any]) -> ScorerPlan:
        """Returns the scorer with the user's arguments.

        Raises:
            AtomThinkError: An argument is missing or has a value that it cannot have.
        """
        what = f"scorer={self.kind}"
        arguments = bind(self.factory, typed, self.own, what)
        identity = {"kind": self.kind, **matters(arguments)}
        if self.critic is None:
            return ScorerPlan(self.kind, identity, None, self.factory, arguments)
        (name, factory), names = self.critic, self._critic_names
        bound = bind(factory, typed, names, what)
        critic = PolicyPlan(name, bound, factory, names, f"the critic (policy {name!r})")
        return ScorerPlan(self.kind, {**identity, "critic": critic.identity}, critic, self.factory, arguments)


def scorer_choice(
    kind: str,
    scorers: Mapping[str, ScorerFactory],
    policies: Mapping[str, PolicyFactory],
    typed: Mapping[str, Any],
) -> ScorerChoice:
    """Returns the scorer of this name.

    Args:
        kind: Registered name of the scorer.
        scorers: All registered scorers.
        policies: All registered policies.
        typed: All arguments by name.

    Raises:
        AtomThinkError: There is no such scorer, or `prm_policy=` names no policy.
    """
    factory: ScorerFactory = pick("scorer", kind, scorers)
    own = scorer_parameters(factory)
    if not _asks_critic(factory):
        return ScorerChoice(kind, factory, own)
    name = _critic_kind(typed)
    return ScorerChoice(kind, factory, own, (name, pick(_POLICY, name, policies)))


def scorer_arguments(
    scorers: Mapping[str, ScorerFactory], policies: Mapping[str, PolicyFactory]
) -> Iterator[tuple[str, list[str]]]:
    """Yields what users may type about scorers, and with which: `scorer=prm_judge` or `prm_policy=vllm`."""
    asks = False
    for name, factory in scorers.items():
        asks |= _asks_critic(factory)
        yield f"scorer={name}", list(scorer_parameters(factory))
    if asks:
        yield "scorer=prm_judge", [_POLICY]
        for name, policy in policies.items():
            yield f"{_POLICY}={name}", list(_names_of_critic(policy))


def scorer_parameters(factory: ScorerFactory) -> dict[str, str]:
    """Returns what users type about a scorer itself, and the parameter that it sets: `prm_tag=` for `tag=`."""
    return {typed: own for typed, own in parameters(factory, _PREFIX).items() if own != _CRITIC}


def _asks_critic(factory: ScorerFactory) -> bool:
    return _CRITIC in parameters(factory)


def _names_of_critic(factory: PolicyFactory) -> dict[str, str]:
    """Returns what users type about a critic: `prm=` for the policy's `pretrained=`, `prm_device=` for `device=`."""
    return {"prm" if own == "pretrained" else _PREFIX + own: own for own in parameters(factory)}


def _critic_kind(typed: Mapping[str, Any]) -> str:
    """Returns the policy that the user names; else the one of a server; else the one that loads the profile's kind."""
    kind, server, profile, prm = (
        convert(name, typed.get(name), str | None) for name in (_POLICY, "prm_base_url", "prm_profile", "prm")
    )
    if kind is not None:
        return str(kind)
    if server is not None:
        return SERVED
    found = profile_named(profile) if profile is not None else profile_of(prm or "")
    loader = "" if found is None else found.model.loader
    return _IN_PROCESS.get(loader, "transformers")
