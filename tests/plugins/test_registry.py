"""Plugins: another package adds to ours without touching it, and a broken one does no harm."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import commands
from tests.plugins.plugin_packages import install

pytestmark = pytest.mark.slow


EXAMPLE = Path(__file__).parents[2] / "examples" / "search_plugin"

USE = """
import asyncio
from atomthink_plugin.api import Message, Question
from atomthink_plugin.config import plan
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.testing import ScriptedPolicy

typed = {"thinking": "slow", "search": "shortest", "scorer": "brevity", "n": "16", "prm_words": "7"}
chosen = plan("transformers", {"pretrained": "any", **typed})
long, short = "Step 1: Look at it for a while.", "Step 1: The final answer is: 5."
policy = ScriptedPolicy({"": {long: 0.5, short: 0.5}, long: {"Step 2: The final answer is: 5.": 1.0}})
runner = Runner(policy, chosen.scorer(), Continue(), chosen.search, chosen.settings)
(result,) = runner.run([Question("q", (Message("user", ("How many?",)),))])
print(result.steps, result.scores)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example plugin, installed by pip into a folder of its own."""
    folder = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source")
    for file in EXAMPLE.iterdir():
        if file.is_file():
            (source / file.name).write_text(file.read_text())
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", folder]
    subprocess.run([*pip, source], check=True, capture_output=True)
    return folder


def run(code: str, site: Path) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path.insert(0, {str(site)!r})\n{code}"
    return commands.run("python", "-c", code, cwd=site, env=commands.environment(site / "cache"))


def logged(done: subprocess.CompletedProcess[str], *named: str) -> list[str]:
    """The lines of the log that name all of these."""
    return [line for line in done.stderr.splitlines() if all(name in line for name in named)]


def test_an_installed_package_adds_a_search_and_a_scorer(site: Path) -> None:
    done = run(USE, site)
    assert done.stdout.strip() == "('Step 1: The final answer is: 5.',) (0.5,)", done.stderr


def test_the_tests_of_the_example_package_pass(site: Path) -> None:
    env = commands.environment(site / "cache", {"PYTHONPATH": str(site)})
    done = commands.run("pytest", "-q", "-p", "no:cacheprovider", "-c", "pyproject.toml", cwd=EXAMPLE, env=env)
    assert done.returncode == 0, done.stdout


def test_a_broken_package_is_reported_by_name_and_the_others_still_count(site: Path, tmp_path: Path) -> None:
    late = (
        "from atomthink_plugin.plugins.hookspecs import hookimpl\n"
        "@hookimpl\ndef atomthink_searches():\n    raise KeyError('no such thing')\n"
        "@hookimpl\ndef atomthink_scorers():\n    return {'confidence': None}\n"
    )
    install(tmp_path, broken="raise RuntimeError('half installed')", late=late)
    done = run(f"sys.path.insert(0, {str(tmp_path)!r})\n{USE}", site)
    assert done.stdout.startswith("('Step 1: The final answer is: 5.',)"), done.stderr
    for named in (
        ("broken (broken_module)", "RuntimeError", "half installed"),
        ("late (late_module)", "atomthink_searches", "KeyError"),
        ("late (late_module)", "atomthink_scorers", "'confidence'"),
    ):
        assert logged(done, *named), done.stderr


MALFORMED = """
from atomthink_plugin.api import SearchKind
from atomthink_plugin.plugins.hookspecs import NamedModel, hookimpl

def usable(words: int = 1): ...

@hookimpl
def atomthink_searches():
    return {
        "bare": usable,
        "hollow": SearchKind("usable", scored=False),
        "good": SearchKind(usable, scored=False),
        "letters": SearchKind(usable, scored=False, roles="judge"),
        "reserved": SearchKind(usable, scored=False, optional_roles=("prm",)),
        "spaced": SearchKind(usable, scored=False, roles=("a judge",)),
    }

@hookimpl
def atomthink_scorers():
    return {"named": "usable", "opaque": dict, "kind": SearchKind(usable, scored=True), "fine": usable, 3: usable}

@hookimpl
def atomthink_policies():
    return {"nothing": None, "own": usable}

@hookimpl
def atomthink_formats():
    return {"text": "Question: {}", "plain": usable}

@hookimpl
def atomthink_models():
    return {"unwrapped": {"pretrained": "x"}, "mine": NamedModel("own")}
"""

NAMES = """
from atomthink_plugin.plugins.registry import registry
offers = registry()
registry()
for kind in (offers.searches, offers.scorers, offers.policies, offers.formats, offers.models):
    print(*sorted(kind))
"""


def test_an_offer_that_cannot_be_used_is_reported_once_and_the_rest_of_the_run_is_unharmed(
    site: Path, tmp_path: Path
) -> None:
    install(tmp_path, odd=MALFORMED)
    done = run(f"sys.path.insert(0, {str(tmp_path)!r})\n{USE}\n{NAMES}", site)
    used, *found = done.stdout.splitlines()
    searches, scorers, policies, formats, models = (set(line.split()) for line in found)
    assert used == "('Step 1: The final answer is: 5.',) (0.5,)", done.stderr
    assert {"beam", "good", "majority"} <= searches
    assert not searches & {"bare", "hollow", "letters", "reserved", "spaced"}
    assert {"confidence", "fine", "prm_token"} <= scorers
    assert not scorers & {"named", "opaque", "kind", "3"}
    assert {"own", "transformers"} <= policies
    assert "nothing" not in policies
    assert {"atomic", "continue", "plain"} <= formats
    assert "text" not in formats
    assert {"atomthink_tiny", "mine"} <= models
    assert "unwrapped" not in models
    searches_left_out = ("'bare'", "'hollow'", "'letters'", "'reserved'", "'spaced'")
    for name in (*searches_left_out, "'named'", "'opaque'", "'kind'", "3", "'nothing'", "'text'", "'unwrapped'"):
        assert done.stderr.count(f"plugin odd (odd_module) offers {name} in ") == 1, done.stderr
    assert logged(done, "'bare'", "SearchKind(factory, scored=False)")


EXITING = """
import sys
from atomthink_plugin.api import SearchKind
from atomthink_plugin.plugins.hookspecs import hookimpl

async def search(tree):
    sys.exit(0)

@hookimpl
def atomthink_searches():
    return {"exits": SearchKind(lambda: search, scored=False), "refuses": SearchKind(sys.exit, scored=False)}

@hookimpl
def atomthink_scorers():
    sys.exit("no licence")
"""

ASK = """
import sys
from atomthink_plugin.api import AtomThinkError, Failure, Message, Question
from atomthink_plugin.config import plan
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.runtime.runner import Runner
from atomthink_plugin.testing import ScriptedPolicy, ScriptedScorer

class ExitingPolicy(ScriptedPolicy):
    async def propose(self, prompt, n, sampling):
        sys.exit(0)

class ExitingScorer(ScriptedScorer):
    async def score(self, path):
        sys.exit(0)

def run(policy, search, scorer=None):
    typed = {"thinking": "slow", "search": search} | ({"scorer": "confidence"} if scorer else {})
    chosen = plan("transformers", {"pretrained": "any", **typed})
    runner = Runner(policy, scorer, Continue(), chosen.search, chosen.settings)
    questions = [Question(name, (Message("user", ("?",)),)) for name in "ab"]
    print([type(result).__name__ for result in runner.run(questions)])

policy = {"": {"Step 1: The final answer is: 5.": 1.0}}
run(ScriptedPolicy(policy), "exits")
run(ExitingPolicy(policy), "majority")
run(ScriptedPolicy(policy), "beam", ExitingScorer({}))
try:
    plan("transformers", {"pretrained": "any", "thinking": "slow", "search": "refuses"})
except AtomThinkError as error:
    print("refused", "refuses" in str(error))
run(ScriptedPolicy(policy), "majority")
"""


def test_a_plugin_that_exits_ends_no_program(site: Path, tmp_path: Path) -> None:
    install(tmp_path, gone="import sys\nsys.exit(3)", exiting=EXITING)
    done = run(f"sys.path.insert(0, {str(tmp_path)!r})\n{ASK}", site)
    failed = "['Failure', 'Failure']"
    assert done.stdout.splitlines() == [failed] * 3 + ["refused True", "['Outcome', 'Outcome']"], done.stderr
    assert logged(done, "gone (gone_module)", "SystemExit")
    assert logged(done, "exiting (exiting_module)", "atomthink_scorers")
    assert done.returncode == 0


def test_a_mistyped_hook_is_reported_with_the_one_that_is_meant(site: Path, tmp_path: Path) -> None:
    hook = "from atomthink_plugin.plugins.hookspecs import hookimpl\n@hookimpl\ndef {}():\n    return {{}}\n"
    install(tmp_path, typo=hook.format("atomthink_serches"), other=hook.format("before_everything"))
    done = run(f"sys.path.insert(0, {str(tmp_path)!r})\n{USE}\n{NAMES}", site)
    (typo,) = [line for line in done.stderr.splitlines() if "atomthink_serches" in line]
    assert "typo (typo_module)" in typo
    assert "atomthink_searches" in typo
    (other,) = [line for line in done.stderr.splitlines() if "before_everything" in line]
    assert "other (other_module)" in other
    assert "atomthink_policies" in other
