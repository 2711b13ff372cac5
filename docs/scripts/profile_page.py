"""The page of the profiles of published process reward models, from their YAML files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from atomthink_plugin.scorers.layouts.arranged import arranged
from atomthink_plugin.scorers.layouts.arrangement import AskedText, Parts
from atomthink_plugin.scorers.prm_profile import (
    ClassesReadOut,
    ImageRule,
    PairReadOut,
    Profile,
    PublishedModel,
    PublishedNumber,
    ShareReadOut,
)
from atomthink_plugin.scorers.profile_catalogue import NamedProfile, all_profiles
from atomthink_plugin.scorers.profile_listing import profile_grid
from atomthink_plugin.scorers.vllm_command import not_served, vllm_command

_STEPS: Final = ("[first step]", "[second step]")


def profiles_page() -> str:
    """Returns the page of all profiles."""
    profiles = all_profiles()
    return "\n\n".join(
        [
            "# PRM profiles",
            "The published process reward models that `prm=` knows by their hub id: how each is read, and which "
            "published number to reproduce with which command. "
            "[Process reward models](../explanation/process-reward-models.md) explains layouts, read-outs and your own "
            "YAML file.",
            "The weights of none of them were available when the profiles were written. Each was transcribed from the "
            "authors' code and texts, and its token ids, reading position and score are tested on a small random model "
            "of the same class. Reproduce a published number before you rely on one.",
            _table(profiles),
            *(part for name in sorted(profiles) for part in _profile(profiles[name])),
        ]
    )


def _table(profiles: Mapping[str, NamedProfile]) -> str:
    grid = profile_grid(profiles)
    linked = [(f"[`{row[0]}`](#{row[0]})", *row[1:]) for row in grid.cells]
    rows = [f"| {' | '.join(row)} |" for row in (grid.headings, *linked)]
    return "\n".join([rows[0], "|" + "---|" * len(grid.headings), *rows[1:]])


def _profile(found: NamedProfile) -> Iterator[str]:
    model = found.model
    yield f"## `{found.name}`"
    if model.notes:
        yield model.notes
    yield "\n".join(f"- {name}: {text}" for name, text in _facts(model))
    if isinstance(model, Profile):
        yield "What it reads for the second step:"
        yield f"```text\n{_example(model)}\n```"
        yield from _served(model)
    yield from _published(model.published)


def _served(profile: Profile) -> Iterator[str]:
    reason = not_served(profile)
    if reason is not None:
        yield f"vLLM cannot serve it: {reason}."
        return
    yield "Serve it with:"
    yield f"```bash\n{vllm_command(profile)}\n```"


def _facts(model: PublishedModel) -> Iterator[tuple[str, str]]:
    yield "Hub ids", ", ".join(f"`{name}`" for name in model.names)
    if isinstance(model, Profile):
        yield "Score", _score(model)
    if model.ids:
        yield "Token ids", ", ".join(f"{_code(text)} {number}" for text, number in model.ids.items())
    yield (
        "Threshold",
        f"a step is right from {model.threshold:g} on"
        if not model.strict
        else (f"a step is right above {model.threshold:g}"),
    )
    if "aggregate" in model.model_fields_set:
        yield "Aggregate", f"`{model.aggregate}`"
    yield "Steps of the authors", model.split.replace("_", " ")
    yield "Images", ", ".join(_images(model.images))
    yield "Loaded as", f"`{model.loader}`"
    yield "Licence", model.licence
    yield "Source", model.source


def _images(rule: ImageRule) -> Iterator[str]:
    yield f"`{rule.use}`"
    limits = {"{} at most": rule.most, "up to {} tiles each": rule.tiles}
    limits |= {"at least {} pixels": rule.min_pixels, "at most {} pixels": rule.max_pixels}
    yield from (words.format(f"{limit:,}") for words, limit in limits.items() if limit is not None)


def _score(profile: Profile) -> str:
    match profile.read:
        case PairReadOut(good=good, bad=bad):
            return f"softmax over {_code(good)} and {_code(bad)}, of {_code(good)}"
        case ShareReadOut(good=good):
            return f"softmax over the vocabulary, of {_code(good)}"
        case ClassesReadOut(count=count, good=classes, minus=()):
            return f"softmax over {count} classes, of {' + '.join(map(str, classes))}"
        case ClassesReadOut(count=count, good=classes, minus=minus):
            shown = f"{' + '.join(map(str, classes))} less {' + '.join(map(str, minus))}"
            return f"softmax over {count} classes, {shown}, mapped from [-1, 1] to [0, 1]"
        case _:
            return "sigmoid of the one output"


def _example(profile: Profile) -> str:
    arrangement = arranged(profile, AskedText("[question]", int(profile.images.use != "none"), "[bos]"), _STEPS)
    parts = [f"<{turn.role}>\n{_shown(turn.parts)}" for turn in arrangement.turns]
    if arrangement.role == "none":
        return _shown(arrangement.begun)
    return "\n".join([*parts, f"<{arrangement.role}>", *([_shown(arrangement.begun)] if arrangement.begun else [])])


def _shown(parts: Parts) -> str:
    """Returns a text in which line breaks can be seen, also at its end."""
    return "".join("[image]" if part is None else part for part in parts).replace("\n", "\\n\n").rstrip("\n")


def _code(text: str) -> str:
    return f"`{text}`" if text.strip() == text else f"`{ascii(text)[1:-1]!r}`".replace("\\\\", "\\")


def _published(numbers: tuple[PublishedNumber, ...]) -> Iterator[str]:
    if not numbers:
        yield "No published number is known that a command of this package reproduces."
        return
    rows = [f"| {one.benchmark} | {one.metric} | {one.value:g} | {one.source} |" for one in numbers]
    yield "\n".join(["| published | metric | value | source |", "|---|---|---|---|", *rows])
    yield "Reproduce it with:" if len(numbers) == 1 else "Reproduce them with:"
    commands = "\n".join(dict.fromkeys(" ".join(one.command.split()) for one in numbers))
    yield f"```bash\n{commands}\n```"
