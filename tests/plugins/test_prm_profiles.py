"""Profiles of another package are found by name and hub id as our own are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from atomthink_plugin.plugins import registry as module
from atomthink_plugin.plugins.hookspecs import hookimpl
from atomthink_plugin.scorers.profile_catalogue import PROFILES, profile_of, profile_text


class Offering(EntryPoint):
    """An entry point whose module is not a file."""

    def load(self) -> Any:
        return OFFERS[self.value]


OFFERS: dict[str, ModuleType] = {}


@pytest.fixture
def read_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., module.Registry]]:
    def read(**files: object) -> module.Registry:
        @hookimpl
        def atomthink_prm_profiles() -> Mapping[str, object]:
            return files

        OFFERS["other"] = ModuleType("other")
        vars(OFFERS["other"])["atomthink_prm_profiles"] = atomthink_prm_profiles
        points = [Offering("other", "other", module.hookspecs.PROJECT)]
        monkeypatch.setattr(module, "entry_points", lambda group: points)
        return module.registry.__wrapped__()

    before = dict(PROFILES)
    yield read
    PROFILES.clear()
    PROFILES.update(before)


def test_a_package_adds_profiles(read_registry: Callable[..., module.Registry], tmp_path: Path) -> None:
    file = tmp_path / "theirs.yaml"
    file.write_text(profile_text("math_shepherd").replace("peiyi9979/math-shepherd-mistral-7b-prm", "them/prm"))
    offers = read_registry(theirs=file)
    assert offers.prm_profiles["theirs"] == file
    found = profile_of("them/prm")
    assert found is not None
    assert found.name == "theirs"


def test_a_package_replaces_none_of_ours_and_offers_files_only(
    read_registry: Callable[..., module.Registry], tmp_path: Path
) -> None:
    file = tmp_path / "theirs.yaml"
    file.write_text("names: []")
    offers = read_registry(math_shepherd=file, missing=tmp_path / "missing.yaml")
    assert offers.prm_profiles["math_shepherd"] != file
    assert "missing" not in PROFILES
    (plugin,) = offers.plugins
    assert len(plugin.problems) == 2
