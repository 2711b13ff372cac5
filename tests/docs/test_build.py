"""The build of the site: it fails at a stale page, and writes the index for language models."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

pytest.importorskip("mkdocstrings")  # of the extra `docs`

pytestmark = pytest.mark.slow


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The hooks, of a copy of the documentation in which the pages may be damaged."""
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "scripts"))
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "scripts" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for folder in ("scripts", "reference"):
        shutil.copytree(ROOT / "docs" / folder, tmp_path / "docs" / folder)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "BUILD", tmp_path / "build")
    (tmp_path / "build").mkdir()
    return module


def test_a_stale_page_fails_the_build_until_it_is_written_again(hooks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from mkdocs.exceptions import PluginError

    page = hooks.ROOT / "docs" / "reference" / "searches.md"
    right = page.read_text()
    page.write_text(right.replace("default `8`", "default `9`", 1))
    with pytest.raises(PluginError, match=r"docs/reference/searches\.md"):
        hooks.on_pre_build(None)
    page.write_text(right)
    hooks.on_pre_build(None)
    monkeypatch.setattr(hooks.subprocess, "run", lambda *_, **__: pytest.fail("checked again without a change"))
    hooks.on_pre_build(None)


def test_the_site_has_an_index_and_the_text_of_all_pages(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    index = (tmp_path / "site" / "llms.txt").read_text()
    listed = re.findall(r"^- \[[^]]+\]\(([^)]+)\)", index, re.MULTILINE)
    assert all((tmp_path / "site" / url / "index.html").is_file() for url in listed)
    undescribed = re.findall(r"^- \[[^]]+\]\(([^)]+)\)$", index, re.MULTILINE)
    assert undescribed == []  # a page starts with a sentence that says what it gives
    sources = [file for file in (ROOT / "docs").rglob("*.md") if file.parent.name != "scripts"]
    assert len(listed) == len(sources)
    full = (tmp_path / "site" / "llms-full.txt").read_text()
    assert [url for url in listed if f"<!-- {url} -->\n" not in full] == []
    assert "Loads a model, its process reward model and a search." in full  # from a docstring
