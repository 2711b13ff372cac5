"""Turns what a user typed into a checked plan, before any model is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from atomthink_plugin.api import AtomThinkError, Format, Sampling, Scorer, Search, SearchKind
from atomthink_plugin.exits import no_exit
from atomthink_plugin.formats.cot import Cot
from atomthink_plugin.formats.direct import Direct
from atomthink_plugin.inference.image_input import MAX_PIXELS
from atomthink_plugin.plugins.arguments import NUMBERS_AS_TEXT, bind, convert, parameters, pick, reject_unknown
from atomthink_plugin.plugins.hookspecs import FormatFactory
from atomthink_plugin.plugins.old_contract import outdated_format
from atomthink_plugin.plugins.registry import Registry, registry
from atomthink_plugin.policies import PolicyPlan, Roles, role_arguments, run_policy
from atomthink_plugin.runtime.runner import OnError
from atomthink_plugin.runtime.settings import Settings
from atomthink_plugin.scorer_plans import ScorerChoice, ScorerPlan, scorer_arguments, scorer_choice
from atomthink_plugin.scorers.critic_choice import critic_profile
from atomthink_plugin.scorers.critic_profile import CriticProfile
from atomthink_plugin.scorers.detect import DetectedPrm, detect_prm
from atomthink_plugin.scorers.prm_profile import PublishedModel
from atomthink_plugin.scorers.profile_catalogue import profile_named, profile_of
from atomthink_plugin.searches.quick import quick

Thinking = Literal["direct", "cot", "quick", "slow"]

QUICK = SearchKind(quick, scored=False, temperature=0.0)

_WHOLE_REPLY: Final[Mapping[str, FormatFactory]] = {"direct": Direct, "cot": Cot}
"""The formats of the ways of thinking that take no other."""


class RunArguments(BaseModel):
    """Arguments that every run has.

    The policy, the search, the scorer and the format have further arguments: the parameters of their factories.
    """

    model_config = NUMBERS_AS_TEXT | ConfigDict(extra="forbid", use_attribute_docstrings=True)

    thinking: Thinking = "quick"
    """How the model thinks about a question. `direct`: one reply to the task's own prompt. `cot`: one reply, after an
    instruction to think step by step. `quick`: one chain of atomic steps. `slow`: a search over steps or chains, which
    `search` names. The reply of `quick` and `slow` is the whole chain with its final sentence, in which the answer is
    boxed as well if the task's prompt asks for that. A task that compares the reply with a single letter needs
    `direct`."""

    search: str | None = None
    """Search of `thinking=slow`, one of these or a plugin's. By default `beam`. Its own arguments have no
    prefix. Those of a further model that it asks have the role's name as prefix, such as
    `judge_pretrained=`."""

    format: str | None = None
    """How the policy is asked for a chain in `thinking=quick` and `thinking=slow`, and what one unit of the reply is.
    `continue`: atomic steps that accumulate in the assistant's turn. `atomic`: AtomThink's template, one turn per step,
    for checkpoints that were trained on it and for servers that cannot continue an assistant's turn. `stages`:
    LLaVA-CoT's four tagged stages. `sentences`: the same stages, sentence by sentence. `thoughts`: Insight-V's tagged
    reasoning, then the answer. `mini`: pieces of a fixed number of tokens, as in Marco-o1. `arrow`: Fine-tune-CoT's
    rationale, arrow and answer. `few_shot`: another of these formats, which `format_form` names, with solved examples
    before the question. Plugins may add others. Arguments of a format have the prefix `format_`. By default the
    search's own format, else the model's, else `continue`."""

    prm: str | None = None
    """Process reward model: a local folder, or the id of a repository on the model hub. Searches that score steps need
    it, or `scorer`. If the PRM is served (`prm_base_url`), this still names its checkpoint, for the tokenizer. A
    published PRM is recognised by its hub id; a search then takes its authors' `aggregate` unless you name one."""

    scorer: str | None = None
    """How steps are scored, by one of these or by a plugin's scorer. By default the PRM's config.json or hub id
    decides. `confidence` needs no PRM: it scores a step by the policy's own probability of its tokens."""

    temperature: float | None = Field(None, ge=0)
    """Sampling temperature of the first sample at each step; 0 is greedy. The default is the search's own, and 0 for
    `direct`, `cot` and `quick`. `--gen_kwargs temperature=` overrides it. The temperature, `top_p`, `top_k` and length
    limit in a task's YAML file are meant for one short reply: they apply to `direct` and `cot` only."""

    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus sampling: tokens are drawn from the likeliest ones whose probabilities add up to this share. 1 keeps
    all tokens. `--gen_kwargs top_p=` overrides it."""

    top_k: int = Field(0, ge=0)
    """Tokens are drawn from this many of the likeliest ones. 0 keeps all tokens. `--gen_kwargs top_k=` overrides
    it."""

    max_new_tokens: int = Field(2048, ge=1)
    """Limit of a chain, or of the reply of `direct` and `cot`, in tokens. `--gen_kwargs max_new_tokens=` overrides
    it."""

    step_tokens: int = Field(256, ge=1)
    """Limit of one step, in tokens."""

    max_steps: int = Field(30, ge=1)
    """Limit of a chain, in steps."""

    retries: int = Field(10, ge=0)
    """How often a step is sampled again if no sample is valid (empty, repeated or otherwise malformed). Each retry
    raises the temperature by 0.1, up to 1."""

    budget_calls: int | None = Field(300, ge=1)
    """Limit of one question, in samples of all policies, judges and critics included. When a budget is spent, the best
    path so far gives the answer, and the sample is marked. `None` removes the limit."""

    budget_tokens: int | None = Field(None, ge=1)
    """Limit of one question, in generated tokens. Those of a generative PRM count too. When they are spent, further
    steps are not scored."""

    budget_seconds: float | None = Field(None, gt=0)
    """Limit of one question, in seconds since its first call."""

    seed: int = 0
    """Seed of the run. Every sample has its own seed, made from this one and from its place in the search tree, so that
    batch size, order and number of processes change no result (beyond the last bits of floating point)."""

    max_pixels: int = Field(MAX_PIXELS, ge=1)
    """Maximum pixels of an image. Larger images are scaled down. Images are rotated by their EXIF orientation."""

    concurrency: int = Field(64, ge=1)
    """Questions that are searched at the same time."""

    on_error: OnError = "record"
    """What happens when a question fails, for example because of a broken image. `record`: it is recorded with its
    reason and the run continues. `raise`: the run stops."""

    policy: str | None = None
    """How the model is run, by one of these or by a plugin's policy. By default the one that `--model` names."""

    config: str | None = None
    """YAML file with any of these arguments, one `name: value` per line. Arguments on the command line override
    them."""

    journal: str | None = None
    """Folder of the journals, in which finished questions and their search trees are kept; a run that is started again
    continues from there. By default `atomthink/journal` in the user's cache (`~/.cache`). `off` keeps nothing."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A checked run: what to load and how to think.

    Attributes:
        arguments: The common arguments.
        policy: Makes the policy.
        roles: Makes the policy of each role of the search; the run's own where an optional role is not given.
        scorer: Makes the scorer, with the loaded critic if it has one; None where the search does without.
        critic: Makes the policy that a generative scorer asks; None for other scorers.
        search: The search, ready.
        search_name: `direct`, `cot`, `quick` or the registered name of a slow search.
        format: How the policy is asked.
        settings: Limits and sampling.
        identity: The arguments that change results, by name, for the journal.
    """

    arguments: RunArguments
    policy: PolicyPlan
    roles: Mapping[str, PolicyPlan]
    scorer: Callable[..., Scorer] | None
    critic: PolicyPlan | None
    search: Search
    search_name: str
    format: Format
    settings: Settings
    identity: Mapping[str, Any]


def plan(policy: str, typed: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> Plan:
    """Checks all arguments of a user and returns the plan of the run.

    Args:
        policy: Registered name of the policy.
        typed: Arguments by name, values as strings or already converted.
        defaults: Arguments of the model's own, where the user gave none and they mean something in this run.

    Raises:
        AtomThinkError: Names the argument, the value, and what is valid.
    """
    offers = registry()
    everywhere = set(RunArguments.model_fields)
    given, defaults = typed, defaults or {}
    typed = {**defaults, **given}
    common = _common({name: value for name, value in typed.items() if name in everywhere and value is not None})
    chosen = run_policy(policy, offers.policies)
    name, kind = _search(common, offers.searches)
    if not kind.scored:
        _refuse_scorer(given, common, offers)
    scorer = _scorer(common, kind, offers, typed)
    scorer_kind = scorer.kind if scorer is not None else None
    roles = Roles(name, kind, policy, typed, offers.policies)
    form_name, form_factory = _format_factory(common, kind, given, offers.formats)

    search_names = parameters(kind.factory)
    form_names = parameters(form_factory, "format_")
    scorer_names = scorer.names if scorer is not None else set()
    valid = everywhere.union(chosen.names, roles.names, search_names, form_names, scorer_names)
    reject_unknown(given, valid, {**_elsewhere(offers), **role_arguments(kind, offers.policies)})

    form_arguments = bind(form_factory, typed, form_names, f"format={form_name}")
    search_arguments = bind(kind.factory, typed, search_names, f"search={name}")
    profile = _profile(common, scorer_kind, typed)
    if profile is not None and "aggregate" in search_names and "aggregate" in profile.model_fields_set:
        search_arguments.setdefault("aggregate", profile.aggregate)
    _check_scope(name, kind, profile, offers.searches)
    planned_scorer = scorer.plan(typed) if scorer is not None else None
    policy_plan = chosen.plan(typed)
    role_plans = roles.plan(policy_plan)
    settings = _settings(common, kind, scored=scorer is not None)
    form = _format(form_name, form_factory, form_arguments)
    with no_exit(f"the search {name!r}"):
        if kind.check_format is not None:
            kind.check_format(form)
        search = kind.factory(**search_arguments)
    return Plan(
        arguments=common,
        policy=policy_plan,
        roles=role_plans,
        scorer=planned_scorer.make if planned_scorer is not None else None,
        critic=planned_scorer.critic if planned_scorer is not None else None,
        search=search,
        search_name=name,
        format=form,
        settings=settings,
        identity={
            "thinking": common.thinking,
            "format": {"name": form_name, "fields": {**form_arguments, **_fields(form)}},
            "policy": policy_plan.identity,
            "roles": {role: planned.identity for role, planned in role_plans.items() if planned != policy_plan},
            "search": {"name": name, **search_arguments},
            "scorer": planned_scorer.identity if planned_scorer is not None else {"kind": None},
            "settings": asdict(settings),
        },
    )


def scorer_plan(typed: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> ScorerPlan:
    """Checks `prm=`, `scorer=` and the scorer's own arguments, for commands that score given steps.

    Args:
        typed: Arguments by name, values as strings or already converted.
        defaults: Arguments where the user gave none and the scorer has them.

    Raises:
        AtomThinkError: Names the argument, the value, and what is valid.
    """
    offers = registry()
    given = {name: value for name, value in typed.items() if value is not None}
    common = _common({name: given[name] for name in ("prm", "scorer") if name in given})
    if common.prm is None and common.scorer is None:
        raise AtomThinkError(f"no scorer is named: pass `--prm CHECKPOINT`; scorers: {', '.join(offers.scorers)}")
    kind = common.scorer or _detected(common.prm or "", given, offers).scorer
    chosen = scorer_choice(kind, offers.scorers, offers.policies, given)
    elsewhere = _places(scorer_arguments(offers.scorers, offers.policies))
    reject_unknown(given, {"scorer", *chosen.names}, elsewhere)
    _profile(common, kind, given)
    return chosen.plan({**(defaults or {}), **given})


def _fields(form: Format) -> dict[str, Any]:
    """Returns what distinguishes formats of one name; the repr of an ordinary class differs in every process."""
    compared: list[str] = [field.name for field in fields(form) if field.compare] if is_dataclass(form) else []
    return {name: _without_address(getattr(form, name)) for name in compared}


def _without_address(value: Any) -> Any:
    """Returns a wrapped format as its class and fields, any other value as it is."""
    return {"name": type(value).__name__, **_fields(value)} if hasattr(value, "render") else value


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
            f"`search={common.search}` needs `thinking=slow`, and this run has `thinking={common.thinking}`"
        )
    return common.thinking, QUICK


def _refuse_scorer(given: Mapping[str, Any], common: RunArguments, offers: Registry) -> None:
    """Raises if the user typed a scorer in a run that scores nothing; a model's own defaults may name one."""
    typed = [name for name in ("scorer", "prm") if given.get(name) not in (None, "None")]
    if "scorer" in typed:
        pick("scorer", str(common.scorer), offers.scorers)
    if typed:
        run = f"search={common.search}" if common.thinking == "slow" else f"thinking={common.thinking}"
        scored = ", ".join(name for name, kind in offers.searches.items() if kind.scored)
        raise AtomThinkError(
            f"`{'` and `'.join(f'{name}={given[name]}' for name in typed)}`: `{run}` uses no scorer. "
            f"Of `thinking=slow`, these searches use one: {scored}"
        )


def _scorer(common: RunArguments, kind: SearchKind, offers: Registry, typed: Mapping[str, Any]) -> ScorerChoice | None:
    """Returns the scorer of a search that uses one; None where the search does without."""
    if not kind.scored:
        return None
    if common.scorer is None and common.prm is None:
        if kind.scorer_optional:
            return None
        raise AtomThinkError(
            f"`search={common.search or 'beam'}` scores steps and no scorer is named: pass `prm=CHECKPOINT`, or "
            f"`scorer=confidence` for the policy's own confidence; scorers: {', '.join(offers.scorers)}"
        )
    name = common.scorer or _detected(common.prm or "", typed, offers).scorer
    return scorer_choice(name, offers.scorers, offers.policies, typed)


def _check_scope(
    name: str, kind: SearchKind, profile: PublishedModel | None, searches: Mapping[str, SearchKind]
) -> None:
    """Raises if the PRM reads finished chains and the search compares unfinished steps."""
    if not isinstance(profile, CriticProfile) or profile.critique.scope != "chain" or kind.chains or not kind.scored:
        return
    fitting = ", ".join(other for other, each in searches.items() if each.chains)
    raise AtomThinkError(
        f"`search={name}` scores unfinished steps, and the PRM {profile.names[0]} reads finished chains: use one of "
        f"{fitting}"
    )


def _detected(prm: str, typed: Mapping[str, Any], offers: Registry) -> DetectedPrm:
    """Returns how a PRM is read, in this process or, with `prm_base_url=`, where it is served."""
    known = _places(scorer_arguments(offers.scorers, offers.policies))
    reject_unknown((name for name in typed if name.startswith("prm_")), known, {})  # a mistyped prm_profile= ends here
    revision, profile = (convert(name, typed.get(name), str | None) for name in ("prm_revision", "prm_profile"))
    found = detect_prm(prm, revision, profile)
    if "prm_base_url" not in typed or found.scorer == "prm_judge":  # a critic is served as any policy is
        return found
    if found.scorer == "prm_likelihood":
        raise AtomThinkError(
            f"`prm={prm}` is read by its likelihood of every token of a step, for which servers do not use their "
            "prefix cache: leave out prm_base_url= to load it in this process"
        )
    return DetectedPrm(f"served_{found.scorer}", found.profile)


def _profile(common: RunArguments, scorer: str | None, typed: Mapping[str, Any]) -> PublishedModel | None:
    """Returns the profile that a scorer reads its PRM by, None for scorers without profiles."""
    if scorer is None or not scorer.endswith(("prm_profiled", "prm_judge")):
        return None
    name = convert("prm_profile", typed.get("prm_profile"), str | None)
    if scorer == "prm_judge":
        return critic_profile(common.prm or "", name)
    found = profile_of(common.prm or "") if name is None else profile_named(name)
    return None if found is None else found.model


def _format_factory(
    common: RunArguments, kind: SearchKind, given: Mapping[str, Any], formats: Mapping[str, FormatFactory]
) -> tuple[str, FormatFactory]:
    """Returns the user's format, else the search's, else the model's, else `continue`."""
    named = common.format if given.get("format") not in (None, "None") else kind.format or common.format
    name = named or "continue"
    factory: FormatFactory = pick("format", name, formats)
    if common.thinking in _WHOLE_REPLY:
        return common.thinking, _WHOLE_REPLY[common.thinking]
    return name, factory


def _format(name: str, factory: FormatFactory, arguments: Mapping[str, Any]) -> Format:
    with no_exit(f"the format {name!r}"):
        form = factory(**arguments)
    if (change := outdated_format(form)) is not None:
        raise AtomThinkError(f"`format={name}` cannot be used: {change}")
    return form


def _settings(common: RunArguments, kind: SearchKind, *, scored: bool) -> Settings:
    temperature = kind.temperature if common.temperature is None else common.temperature
    sampling = Sampling(
        temperature=temperature,
        rise=kind.rise,
        top_p=common.top_p,
        top_k=common.top_k,
        max_tokens=common.step_tokens,
        seed=common.seed,
        tops=0 if scored and kind.scorer_optional else kind.tops,
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


def _elsewhere(offers: Registry) -> dict[str, str]:
    """Returns the arguments of all searches, scorers and formats, and which they belong to."""
    searches = {f"search={name}": kind for name, kind in offers.searches.items()}
    formats = {f"format={name}": factory for name, factory in offers.formats.items()}
    formats |= {f"thinking={name}": factory for name, factory in _WHOLE_REPLY.items()}
    return _places(
        [
            *((where, parameters(kind.factory)) for where, kind in searches.items()),
            *((where, role_arguments(kind, offers.policies)) for where, kind in searches.items()),
            *scorer_arguments(offers.scorers, offers.policies),
            *((where, parameters(factory, "format_")) for where, factory in formats.items()),
        ]
    )


def _places(arguments: Iterable[tuple[str, Iterable[str]]]) -> dict[str, str]:
    """Returns each argument with all that it belongs to: `search=beam or search=greedy`."""
    places: dict[str, list[str]] = {}
    for where, names in arguments:
        for name in names:
            places.setdefault(name, []).append(where)
    return {name: " or ".join(where) for name, where in places.items()}
