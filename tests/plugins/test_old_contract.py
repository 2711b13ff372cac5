"""A plugin that was written for an earlier contract is named, with what changed, and does no harm."""

from __future__ import annotations

import subprocess
from importlib import import_module, util

import pytest

from atomthink_plugin.plugins.old_contract import RENAMED
from tests import commands
from tests.plugins.plugin_packages import install

pytestmark = pytest.mark.slow


HOOK = "from atomthink_plugin.plugins.hookspecs import hookimpl\n@hookimpl\n"
RUNS = """
from atomthink_plugin.api import AtomThinkError, Message, Question, SearchKind
from atomthink_plugin.config import plan
from atomthink_plugin.plugins.registry import registry
from atomthink_plugin.runtime.build import build
offers = registry()
print(sorted({"old", "new"} & (offers.searches.keys() | offers.policies.keys() | offers.formats.keys())))
for kind in ("transformers", "late"):
    try:
        chosen = plan(kind, {"pretrained": "any"} if kind == "transformers" else {})
        print(kind, type(build(chosen)).__name__ if kind == "late" else "planned")
    except AtomThinkError as error:
        print(kind, error)
"""
GOOD = f"""
class Late:
    identity = "late"
    async def propose(self, path, n, sampling): ...

def search(): ...

{HOOK}def atomthink_policies():
    return {{"late": Late}}

from atomthink_plugin.api import SearchKind
@hookimpl
def atomthink_searches():
    return {{"new": SearchKind(search, scored=False)}}
"""
OLD = {
    "mind": ("from atomthink_plugin.api import Mind", "api.Mind", "api.SearchTree"),
    "hooks": ("import atomthink_plugin.hookspecs", "atomthink_plugin.hookspecs", "plugins.hookspecs"),
    "registry": ("from atomthink_plugin import registry", "atomthink_plugin.registry", "plugins.registry"),
    "format": ("from atomthink_plugin.formats import Continue", "formats.Continue", "continuation.Continue"),
    "steps": ("from atomthink_plugin.steps import split_steps", "atomthink_plugin.steps", "formats.steps"),
    "prefix": ("import atomthink_plugin.prefixes.tree", "atomthink_plugin.prefixes", "inference.prefix_cache"),
    "loading": ("from atomthink_plugin.inference import anything", "atomthink_plugin.inference", "forward_passes"),
    "attribute": ("import atomthink_plugin.api as api\napi.Mind", "api.Mind", "api.SearchTree"),
    "late_import": (
        f"{HOOK}def atomthink_searches():\n    from atomthink_plugin.api import Mind",
        *("api.Mind", "api.SearchTree", "atomthink_searches"),
    ),
    "fields": (
        "from atomthink_plugin.api import SearchKind\n"
        f"{HOOK}def atomthink_searches():\n    return {{'old': SearchKind(print, scored=False, agents=2)}}",
        *("SearchKind", "`agents`", "optional_roles"),
    ),
    "bound": (
        f"def policy(pretrained: str, *, format): ...\n{HOOK}def atomthink_policies():\n    return {{'old': policy}}",
        *("'old'", "`format`", "Prompt"),
    ),
    "stepwise": (
        f"class Old:\n    stepwise = True\n{HOOK}def atomthink_formats():\n    return {{'old': Old}}",
        *("'old'", "`stepwise`", "`unit(path)`"),
    ),
    "unrelated": ("import numpy.no_such_part", "ModuleNotFoundError", "numpy.no_such_part"),
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """One process that has all of these plugins, and one that is as it should be."""
    folder = tmp_path_factory.mktemp("site")
    install(folder, **{name: code for name, (code, *_) in OLD.items()}, good=GOOD)
    code = f"import sys; sys.path.insert(0, {str(folder)!r})\n{RUNS}"
    return commands.run("python", "-c", code, cwd=folder, env=commands.environment(folder / "cache"))


@pytest.mark.parametrize("name", OLD)
def test_an_old_plugin_is_named_once_with_what_changed(name: str, done: subprocess.CompletedProcess[str]) -> None:
    lines = [line for line in done.stderr.splitlines() if f"{name} ({name}_module)" in line]
    assert len(lines) == 1, done.stderr
    missing = [part for part in OLD[name][1:] if part not in lines[0]]
    assert not missing, lines[0]


def test_other_plugins_and_runs_go_on(done: subprocess.CompletedProcess[str]) -> None:
    offered, other, late = done.stdout.splitlines()
    assert (offered, other) == ("['new']", "transformers planned"), done.stderr
    assert late.startswith("late the policy 'late'")
    assert "`propose(prompt, n, sampling)`" in late


@pytest.mark.parametrize("old", RENAMED)
def test_moved_names_are_where_the_table_points(old: str) -> None:
    assert exists(RENAMED[old])
    became_a_package = old == "atomthink_plugin.inference"
    assert exists(old) == became_a_package


def exists(name: str) -> bool:
    module, _, member = name.rpartition(".")
    try:
        return util.find_spec(name) is not None
    except ModuleNotFoundError:  # the last part is no module, or its folder is gone
        try:
            return hasattr(import_module(module), member)
        except ModuleNotFoundError:
            return False
