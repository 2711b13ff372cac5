"""The versions that `atomthink doctor` finds missing, out of range or newer than tested."""

from __future__ import annotations

import pytest

from atomthink_plugin.doctor import versions
from atomthink_plugin.doctor.findings import Problem
from tests.doctor import naming


def scripted_versions(monkeypatch: pytest.MonkeyPatch, **others: str | None) -> list[Problem]:
    """The problems where some packages have other versions, or are missing."""
    real = versions.version

    def version(name: str) -> str:
        key = name.replace("-", "_")
        found = others[key] if key in others else real(name)
        if found is None:
            raise versions.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(versions, "version", version)
    return list(versions.versions().problems)


def test_a_required_package_that_is_missing_or_out_of_range_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    problems = scripted_versions(monkeypatch, filelock="4.3.0", transformers="5.15.2", pluggy=None)
    for words in (("filelock", "4.3.0", "<4.3"), ("transformers", "5.15.2", ">=5.16"), ("pluggy", "pip install")):
        (found,) = naming(problems, *words)
        assert found.broken
    assert len([one for one in problems if one.broken]) == 3


def test_a_missing_extra_names_its_commands_and_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    problems = scripted_versions(monkeypatch, vllm=None, trl=None, altair="4.0.0")
    for words in (("atomthink_vllm", "[vllm]"), ("atomthink train", "trl", "[train]"), ("scale", "altair 4.0.0")):
        (found,) = naming(problems, *words)
        assert not found.broken
    assert not [one for one in problems if one.broken]


@pytest.mark.parametrize(("found", "named"), [("5.24.9", False), ("5.25.0", True), ("6.0.0", True)])
def test_a_package_newer_than_tested_is_a_note(found: str, named: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = naming(scripted_versions(monkeypatch, transformers=found), "transformers", found)
    assert [one.broken for one in problems] == [False] * named


def test_the_table_has_versions_and_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted_versions(monkeypatch, vllm="0.33.0", transformers="5.20.0")
    table = versions.versions().table
    assert table is not None
    rows = {name: rest for name, *rest in table.cells}
    assert rows["vllm"] == ["0.33.0", ">=0.20,<0.34", "0.33"]
    assert rows["transformers"][:2] == ["5.20.0", ">=5.16"]
    assert rows["Python"][1] == ">=3.11"


def test_a_python_that_is_too_old_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions.sys, "version_info", (3, 10, 4))
    (found,) = naming(versions.versions().problems, "Python 3.10.4", ">=3.11")
    assert found.broken
