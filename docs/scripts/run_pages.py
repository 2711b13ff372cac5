"""The pages of a run's arguments and of the searches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import format_page
from described import Argument, entries, of_callable, of_model, paragraphs, summary
from shown import choices

from atomthink_plugin.api import SearchKind
from atomthink_plugin.config import QUICK, RunArguments
from atomthink_plugin.identity import matters
from atomthink_plugin.model_adapters.tiny import WEIGHTS
from atomthink_plugin.plugins import defaults
from atomthink_plugin.policies import roles_of
from atomthink_plugin.scorer_plans import scorer_parameters

_RISE: Final = " for the first, the second and all further samples of a step"

SAME: Final = ("concurrency", "on_error", "journal", "config")
"""Arguments of every run that are not in the identity of its plan, see tests/docs/test_reference.py."""


def run_arguments() -> list[Argument]:
    """Returns the arguments that every run has."""
    names: Mapping[str, Iterable[str]] = {
        "search": defaults.atomthink_searches(),
        "format": defaults.atomthink_formats(),
        "scorer": defaults.atomthink_scorers(),
        "policy": defaults.atomthink_policies(),
    }
    return [
        replace(one, type=choices(names[one.name])) if one.name in names else one
        for one in of_model(RunArguments, "a run", same=SAME.__contains__)
    ]


def policy_arguments() -> dict[str, list[Argument]]:
    """Returns the arguments of each policy."""
    policies = defaults.atomthink_policies().items()
    return {name: of_callable(make, f"the policy {name}", same=_same) for name, make in policies}


def scorer_arguments() -> dict[str, list[Argument]]:
    """Returns the arguments of each scorer."""
    return {
        name: of_callable(make, f"the scorer {name}", scorer_parameters(make), _same)
        for name, make in defaults.atomthink_scorers().items()
    }


def search_arguments() -> dict[str, list[Argument]]:
    """Returns the arguments of each search."""
    return {
        name: of_callable(kind.factory, f"the search {name}") for name, kind in defaults.atomthink_searches().items()
    }


def _same(name: str) -> bool:
    return not matters({name: "value"})


def arguments_page() -> str:
    """Returns the page of all arguments of `--model_args`."""
    return "\n\n".join(
        [
            "# Arguments",
            "Every argument of `--model_args`: those of [every run](#every-run), of the "
            "[model's policy](#models-and-their-policies), of the [scorer](#scorers), of the "
            "[format](#format-arguments) and of [further models](#roles). The arguments of a search are on the page "
            "[Searches](searches.md).",
            "There are three ways to pass them: `--model_args name=value,name=value` of `lmms-eval` and `atomthink`, "
            "lines `name: value` in a YAML file (`--model_args config=FILE`), and `load(MODEL, name=value)` in "
            "[Python](python-api.md). `None` means no value.",
            "An unknown argument, or a value that does not fit, is an error before any model is loaded. `lmms-eval` "
            "then exits with status 2, as it does if all questions of a run fail.",
            "An argument marked *changes no result* may have another value when a run is resumed. With another value "
            "of any other argument, all questions are asked again.",
            "## Every run",
            entries(run_arguments()),
            "## Models and their policies",
            "`--model` chooses a policy and sets some of its arguments. Those that you pass override them. "
            "[Models](models.md) has the versions that were tested.",
            _models(),
            "The options `--batch_size` and `--device` of lmms-eval set the policy's arguments of these names, and "
            "the PRM's (`prm_batch_size`, `prm_device`) unless you give it its own.",
            *_sections(policy_arguments(), defaults.atomthink_policies(), "policy"),
            "## Scorers",
            "`scorer` names one of these; by default the PRM's config.json or hub id decides. With `prm_base_url=` it "
            "is the `served_` scorer of the same kind. Their arguments have the prefix `prm_`. "
            "[Process reward models](prms.md) has checkpoints that were tested.",
            *_sections(scorer_arguments(), defaults.atomthink_scorers(), "scorer"),
            "## Format arguments",
            "Arguments of a format have the prefix `format_`. [Formats](formats.md) shows what a model is asked.",
            *(
                f"### `{name}`{'' if name in defaults.atomthink_formats() else f' (`thinking={name}`)'}\n\n"
                + (entries(arguments, f"{name}-") or "It has no arguments.")
                for name, arguments in format_page.format_arguments().items()
            ),
            "## Roles",
            *_roles(),
        ]
    )


def _models() -> str:
    lines = []
    for name, model in defaults.atomthink_models().items():
        given = ", ".join(f"`{key}={_place(value)}`" for key, value in model.defaults.items())
        lines.append(f"- `{name}`: policy [`{model.policy}`](#policy-{model.policy}){f', {given}' if given else ''}")
    return "\n".join(lines)


def _place(value: object) -> object:
    """Returns the value; a path within the package without the folder it is installed in."""
    return f"(embedded {Path(value).name})" if isinstance(value, str) and value.startswith(str(WEIGHTS)) else value


def _sections(
    arguments: Mapping[str, list[Argument]], makers: Mapping[str, Callable[..., Any]], kind: str
) -> Iterator[str]:
    for name, own in arguments.items():
        yield f'### <a id="{kind}-{name}"></a>`{name}`'
        yield summary(makers[name])
        yield entries(own, f"{name}-") or "It has no arguments."


def _roles() -> Iterator[str]:
    yield (
        "Some searches ask a further model, such as a judge. That is a role. It has the arguments of a policy, with "
        "the role's name as prefix: `judge_pretrained=`, `critic_base_url=`. `ROLE_policy=` sets the kind of policy. "
        "By default it is `openai` if `ROLE_base_url=` is given, and the kind of the run's own policy otherwise. A "
        "role inherits `batch_size`, `device` and `base_url` of the run. The roles in the table are optional: without "
        "arguments for a role, the run's own policy plays it."
    )
    rows = ["| role | search |", "|---|---|"]
    for name, kind in defaults.atomthink_searches().items():
        rows += [f"| `{role}` | [`{name}`](searches.md#{name}) |" for role in roles_of(kind)]
    yield "\n".join(rows)


def searches_page() -> str:
    """Returns the page of all searches."""
    kinds = defaults.atomthink_searches()
    return "\n\n".join(
        [
            "# Searches",
            "Every search of `thinking=slow`, with its arguments and where it comes from. "
            "[Choose a search](../how-to/choose-a-search.md) says which one fits your model, "
            "[Published methods](../explanation/methods.md) how each differs from its paper, and "
            "[Searches and formats](../benchmarks/methods.md) how they compare on one test bed.",
            "```bash\nlmms-eval --model atomthink_tiny --tasks atomthink_demo --limit 20 \\\n"
            "    --model_args thinking=slow,search=beam,beams=2,candidates=3\n```",
            _overview(kinds),
            *_search("quick", QUICK, [], "thinking=quick"),
            *(
                part
                for name, kind in kinds.items()
                for part in _search(name, kind, search_arguments()[name], f"thinking=slow,search={name}")
            ),
        ]
    )


def _overview(kinds: Mapping[str, SearchKind]) -> str:
    rows = ["| search | what it does | PRM |", "|---|---|---|"]
    for name, kind in kinds.items():
        first = paragraphs(sys.modules[kind.factory.__module__].__doc__ or "")[0]
        rows.append(f"| [`{name}`](#{name}) | {first} | {_PRM[kind.scored, kind.scorer_optional]} |")
    return "\n".join(rows)


_PRM: Final = {(False, False): "", (True, False): "yes", (True, True): "optional"}

_SCORER: Final = {
    (False, False): "It needs no scorer.",
    (True, False): "It scores steps, so it needs `prm` or `scorer`.",
    (True, True): "It scores steps if `prm` or `scorer` names a scorer, and also works without one.",
}
"""By `SearchKind.scored` and `SearchKind.scorer_optional`."""


def _temperature(kind: SearchKind) -> str:
    drawn = [max(kind.temperature, min(kind.temperature + kind.rise * index, 1.0)) for index in range(3)]
    return ", ".join(f"{each:g}" for each in (drawn if kind.rise else drawn[:1]))


def _search(name: str, kind: SearchKind, arguments: list[Argument], typed: str) -> Iterator[str]:
    yield f"## `{name}`"
    first, *rest = paragraphs(sys.modules[kind.factory.__module__].__doc__ or "")
    yield first
    yield summary(kind.factory)
    facts = [
        f"Typed as `{typed}`.",
        f"Default temperature: {_temperature(kind)}{_RISE if kind.rise else ''}.",
        _SCORER[kind.scored, kind.scorer_optional],
    ]
    if kind.format:
        facts.append(f"Format: [`{kind.format}`](formats.md#{kind.format}), unless `format` names another.")
    if roles_of(kind):
        needed = "required" if kind.roles else "optional"
        facts.append(
            f"Role: {', '.join(f'`{role}`' for role in roles_of(kind))} ({needed}), see [Roles](arguments.md#roles)."
        )
    yield "\n".join(f"- {fact}" for fact in facts)
    if arguments:
        yield "Arguments:"
        yield entries(arguments, f"{name}-")
    yield from rest
