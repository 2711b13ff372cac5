"""The taxonomy of abilities, read from a YAML or JSON file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final

import yaml
from annotated_types import MinLen
from pydantic import BaseModel, ConfigDict, ValidationError

from atomthink_plugin.api import AtomThinkError

PUBLISHED: Final = Path(__file__).parent / "taxonomy.yaml"
"""The abilities named in AtomThink's figures."""


class _AbilityFields(BaseModel):
    model_config = ConfigDict(extra="forbid")

    description: Annotated[str, MinLen(1)]
    keywords: list[Annotated[str, MinLen(1)]] = []


class _TaxonomyFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    groups: Annotated[dict[str, Annotated[dict[str, _AbilityFields], MinLen(1)]], MinLen(1)]


@dataclass(frozen=True, slots=True)
class Ability:
    """One kind of step.

    Attributes:
        name: Unique in its taxonomy.
        group: The group it belongs to.
        description: What a step of this kind does.
        keywords: Words and phrases that such steps contain.
    """

    name: str
    group: str
    description: str
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True)
class Taxonomy:
    """All abilities, in the file's order."""

    abilities: tuple[Ability, ...]

    @cached_property
    def by_name(self) -> Mapping[str, Ability]:
        """Each ability by its name."""
        return {ability.name: ability for ability in self.abilities}

    def group_of(self, ability: str) -> str:
        """Returns the group an ability belongs to.

        Raises:
            AtomThinkError: The taxonomy has no such ability.
        """
        if ability not in self.by_name:
            raise AtomThinkError(
                f"ability {ability!r} is not in the taxonomy, which has {', '.join(self.by_name)}. Pass the file that "
                "the records were made with as `--taxonomy`"
            )
        return self.by_name[ability].group


def load_taxonomy(file: Path | None = None) -> Taxonomy:
    """Returns the taxonomy in a YAML or JSON file, or the published one if `file` is None.

    Raises:
        AtomThinkError: The file cannot be read or is not a taxonomy.
    """
    path = file or PUBLISHED
    try:
        read = _TaxonomyFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise AtomThinkError(f"`--taxonomy {path}` cannot be read: {error}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        raise AtomThinkError(
            f"`--taxonomy {path}`: {'.'.join(map(str, fault['loc'])) or 'the file'}: {fault['msg']}. "
            "A taxonomy has `groups:`, with abilities by name, each with a `description:` and `keywords:`"
        ) from None
    abilities = tuple(
        Ability(name, group, given.description, tuple(given.keywords))
        for group, members in read.groups.items()
        for name, given in members.items()
    )
    names = [ability.name for ability in abilities]
    if twice := {name for name in names if names.count(name) > 1}:
        raise AtomThinkError(f"`--taxonomy {path}`: {', '.join(sorted(twice))} is in more than one group")
    return Taxonomy(abilities)
