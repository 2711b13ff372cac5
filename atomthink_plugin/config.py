"""The border: what a user typed becomes a checked plan, before any model is loaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from atomthink_plugin.api import AtomThinkError, Format, Policy, Sampling, Scorer, Search, SearchKind
from atomthink_plugin.exits import no_exit
from atomthink_plugin.formats.cot import Cot
from atomthink_plugin.formats.direct import Direct
from atomthink_plugin.inference.image_input import MAX_PIXELS
from atomthink_plugin.plugins.arguments import NUMBERS_AS_TEXT, bind, convert, parameters, pick, reject_unknown
from atomthink_plugin.plugins.hookspecs import PolicyFactory, ScorerFactory
from atomthink_plugin.plugins.registry import Registry, registry
from atomthink_plugin.redaction import masked
from atomthink_plugin.runtime.runner import OnError
from atomthink_plugin.runtime.settings import Settings
from atomthink_plugin.scorers.detect import detect_kind
from atomthink_plugin.searches.quick import quick

Thinking = Literal["direct", "cot", "quick", "slow"]

QUICK = SearchKind(quick, scored=False, temperature=0.0)

_HOW: Final = frozenset(
    {"batch_size", "device", "cache_gib", "connections", "timeout", "max_retries", "wait", "continuation"}
)
"""Arguments that say how something is computed, not what."""

_PATHS: Final = ("pretrained", "prm", "chat_template")
"""Arguments that may name a file or folder, from the home folder on."""


class RunArguments(BaseModel):
    """Arguments every run has, as the README's table explains them.

    Those of the policy, the search and the scorer come from their factories.
    """

    model_config = NUMBERS_AS_TEXT | ConfigDict(extra="forbid")

    thinking: Thinking = "quick"
    search: str | None = None
    format: str = "continue"
    prm: str | None = None
    scorer: str | None = None
    temperature: float | None = Field(None, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    max_new_tokens: int = Field(2048, ge=1)
    step_tokens: int = Field(256, ge=1)
    max_steps: int = Field(30, ge=1)
    retries: int = Field(10, ge=0)
    budget_calls: int | None = Field(300, ge=1)
    budget_tokens: int | None = Field(None, ge=1)
    budget_seconds: float | None = Field(None, gt=0)
    seed: int = 0
    max_pixels: int = Field(MAX_PIXELS, ge=1)
    concurrency: int = Field(64, ge=1)
    on_error: OnError = "record"
    journal: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A checked run: what to load and how to think.

    Attributes:
        arguments: The common arguments.
        policy: Makes the policy.
        scorer: Makes the scorer; None where the search does without.
        search: The search, ready.
        search_name: `direct`, `cot`, `quick` or the registered name of a slow search.
        format: How the policy is asked.
        settings: Limits and sampling.
        identity: The arguments that change results, by name, for the journal.
    """

    arguments: RunArguments
    policy: Callable[[], Policy]
    scorer: Callable[[], Scorer] | None
    search: Search
    search_name: str
    format: Format
    settings: Settings
    identity: Mapping[str, Any]


def plan(policy: str, typed: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> Plan:
    """Checks everything a user typed and returns what is to be done.

    Args:
        policy: Registered name of the policy.
        typed: Arguments by name, values as strings or already converted.
        defaults: Arguments of the model's own, where the user gave none and they mean something in this run.

    Raises:
        AtomThinkError: Names the argument, the value, and what is valid.
    """
    offers = registry()
    everywhere = set(RunArguments.model_fields)
    given, typed = typed, {**(defaults or {}), **typed}
    common = _common({name: value for name, value in typed.items() if name in everywhere and value is not None})
    policy_factory: PolicyFactory = pick("policy", policy, offers.policies)
    name, kind = _search(common, offers.searches)
    if not kind.scored:
        _refuse_scorer(given, common, offers)
    scorer_kind, scorer_factory = _scorer(common, kind, offers.scorers, typed)

    policy_names = parameters(policy_factory)
    search_names = parameters(kind.factory)
    scorer_names = parameters(scorer_factory, "prm_") if scorer_factory else {}
    valid = everywhere | policy_names.keys() | search_names.keys() | scorer_names.keys()
    reject_unknown(given, valid, _elsewhere(offers.searches, offers.scorers))

    form_name, form = _format(common, offers.formats)
    search_arguments = bind(kind.factory, typed, search_names, f"search={name}")
    policy_arguments = bind(policy_factory, typed, policy_names, "the model")
    scorer_arguments = bind(scorer_factory, typed, scorer_names, f"scorer={scorer_kind}") if scorer_factory else {}
    settings = _settings(common, kind)
    with no_exit(f"the search {name!r}"):
        search = kind.factory(**search_arguments)
    return Plan(
        arguments=common,
        policy=lambda: policy_factory(**policy_arguments),
        scorer=(lambda: scorer_factory(**scorer_arguments)) if scorer_factory else None,
        search=search,
        search_name=name,
        format=form,
        settings=settings,
        identity={
            "thinking": common.thinking,
            "format": {"name": form_name, "fields": _fields(form)},
            "policy": {"name": policy, **_matters(policy_arguments)},
            "search": {"name": name, **search_arguments},
            "scorer": {"kind": scorer_kind, **_matters(scorer_arguments)},
            "settings": asdict(settings),
        },
    )


@dataclass(frozen=True, slots=True)
class ScorerPlan:
    """A checked scorer without a policy.

    Attributes:
        kind: Its registered name.
        make: Loads it.
        identity: The kind and the arguments that change its scores.
    """

    kind: str
    make: Callable[[], Scorer]
    identity: Mapping[str, Any]


def scorer_plan(typed: Mapping[str, Any]) -> ScorerPlan:
    """Checks `prm=`, `scorer=` and the scorer's own arguments, for commands that score given steps.

    Raises:
        AtomThinkError: Names the argument, the value, and what is valid.
    """
    scorers = registry().scorers
    given = {name: value for name, value in typed.items() if value is not None}
    common = _common({name: given[name] for name in ("prm", "scorer") if name in given})
    if common.prm is None and common.scorer is None:
        raise AtomThinkError(f"no scorer is named: pass `--prm CHECKPOINT`; scorers: {', '.join(scorers)}")
    kind = common.scorer or _detected(common.prm or "", given)
    factory: ScorerFactory = pick("scorer", kind, scorers)
    names = parameters(factory, "prm_")
    reject_unknown(given, {"scorer", *names}, _elsewhere({}, scorers))
    arguments = bind(factory, given, names, f"scorer={kind}")
    return ScorerPlan(kind, lambda: factory(**arguments), {"kind": kind, **_matters(arguments)})


def _matters(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that change results; a path counts by where it leads, a template file by what it says.

    Secrets are left out: they are written into the journal's folder, and another key changes no result.
    """
    matters = {
        name: os.path.expanduser(value) if name in _PATHS and isinstance(value, str) else value
        for name, value in arguments.items()
        if name not in _HOW
    }
    template = matters.get("chat_template")
    if template is not None and Path(template).is_file():
        matters["chat_template"] = Path(template).read_text(encoding="utf-8")
    kept: dict[str, Any] = masked(matters)
    return kept


def _fields(form: Format) -> dict[str, Any]:
    """What tells one format of a name from another; the repr of an ordinary class differs in every process."""
    return {field.name: getattr(form, field.name) for field in fields(form)} if is_dataclass(form) else {}


def _common(typed: Mapping[str, Any]) -> RunArguments:
    clean = {name: None if value == "None" else value for name, value in typed.items()}
    try:
        return RunArguments.model_validate(clean)
    except ValidationError as error:
        faults = [f"`{'.'.join(map(str, e['loc']))}={e['input']}`: {e['msg']}" for e in error.errors()]
        raise AtomThinkError("; ".join(faults)) from None


def _search(common: RunArguments, searches: Mapping[str, SearchKind]) -> tuple[str, SearchKind]:
    if common.thinking == "slow":
        name = common.search or "beam"
        return name, pick("search", name, searches)
    if common.search is not None:
        raise AtomThinkError(
            f"`search={common.search}` goes with thinking=slow, and this run has `thinking={common.thinking}`"
        )
    return common.thinking, QUICK


def _refuse_scorer(given: Mapping[str, Any], common: RunArguments, offers: Registry) -> None:
    """Raises if the user typed a scorer in a run that scores nothing; a model's own defaults may name one."""
    typed = [name for name in ("scorer", "prm") if given.get(name) not in (None, "None")]
    if "scorer" in typed:
        pick("scorer", str(common.scorer), offers.scorers)
    if typed:
        run = f"search={common.search}" if common.thinking == "slow" else f"thinking={common.thinking}"
        scored = " or ".join(f"search={name}" for name, kind in offers.searches.items() if kind.scored)
        raise AtomThinkError(
            f"`{'` and `'.join(f'{name}={given[name]}' for name in typed)}`: only thinking=slow with {scored} uses a "
            f"scorer, and this run has `{run}`"
        )


def _scorer(
    common: RunArguments, kind: SearchKind, scorers: Mapping[str, ScorerFactory], typed: Mapping[str, Any]
) -> tuple[str | None, ScorerFactory | None]:
    """The scorer a scored search uses; others load none."""
    if not kind.scored:
        return None, None
    if common.scorer is None and common.prm is None:
        raise AtomThinkError(
            f"`search={common.search or 'beam'}` scores steps and no scorer is named: pass `prm=CHECKPOINT`, or "
            f"`scorer=confidence` for the policy's own confidence; scorers: {', '.join(scorers)}"
        )
    name = common.scorer or _detected(common.prm or "", typed)
    return name, pick("scorer", name, scorers)


def _detected(prm: str, typed: Mapping[str, Any]) -> str:
    """The scorer that reads a PRM, in this process or, with `prm_base_url=`, where it is served."""
    name = detect_kind(prm, convert("prm_revision", typed.get("prm_revision"), str | None))
    if "prm_base_url" not in typed:
        return name
    if name == "prm_likelihood":
        raise AtomThinkError(
            f"`prm={prm}` is read by its likelihood of every token of a step, for which servers do not use their "
            "prefix cache: leave out prm_base_url= to load it in this process"
        )
    return f"served_{name}"


def _format(common: RunArguments, formats: Mapping[str, Callable[[], Format]]) -> tuple[str, Format]:
    chosen: Callable[[], Format] = pick("format", common.format, formats)
    whole_reply: Mapping[str, Callable[[], Format]] = {"direct": Direct, "cot": Cot}
    if common.thinking in whole_reply:
        return common.thinking, whole_reply[common.thinking]()
    return common.format, chosen()


def _settings(common: RunArguments, kind: SearchKind) -> Settings:
    temperature = kind.temperature if common.temperature is None else common.temperature
    sampling = Sampling(
        temperature=temperature,
        rise=kind.rise,
        top_p=common.top_p,
        top_k=common.top_k,
        max_tokens=common.step_tokens,
        seed=common.seed,
    )
    return Settings(
        sampling=sampling,
        max_new_tokens=common.max_new_tokens,
        max_steps=common.max_steps,
        retries=common.retries,
        budget_calls=common.budget_calls,
        budget_tokens=common.budget_tokens,
        budget_seconds=common.budget_seconds,
    )


def _elsewhere(searches: Mapping[str, SearchKind], scorers: Mapping[str, ScorerFactory]) -> dict[str, str]:
    """Arguments of all searches and scorers, with what they go with."""
    places: dict[str, list[str]] = {}
    for name, kind in searches.items():
        for argument in parameters(kind.factory):
            places.setdefault(argument, []).append(f"search={name}")
    for name, factory in scorers.items():
        for argument in parameters(factory, "prm_"):
            places.setdefault(argument, []).append(f"scorer={name}")
    return {argument: " or ".join(where) for argument, where in places.items()}
