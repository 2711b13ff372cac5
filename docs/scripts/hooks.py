"""Hooks of `mkdocs build`: sources for the Python API, the check of generated pages, llms.txt."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import llms
from mkdocs.exceptions import PluginError

ROOT = Path(__file__).parents[2]
FOLDERS = {"atomthink_plugin": "", "model_adapters": "model_adapters", "tasks": "tasks", "training": "training"}
"""Top folders, and where they install within `atomthink_plugin`."""

BUILD = ROOT / "build" / "docs"

pages: dict[str, llms.Page] = {}
"""The pages of this build by the path of their source, in the order of the nav."""


def on_startup(command: str, dirty: bool) -> None:
    """Lays out the import package for mkdocstrings, which reads the sources and does not import them."""
    package = BUILD / "source" / "atomthink_plugin"
    shutil.rmtree(package, ignore_errors=True)
    for folder, place in FOLDERS.items():
        for file in (ROOT / folder).rglob("*.py"):
            copy = package / place / file.relative_to(ROOT / folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)


def on_pre_build(config: Any) -> None:
    """Checks the generated pages, unless neither they nor the sources changed since they were found right.

    Raises:
        PluginError: A page is out of date, or an argument has no description.
    """
    stamp, digest = BUILD / "checked", _digest()
    if stamp.is_file() and stamp.read_text() == digest:
        return
    check = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "scripts" / "reference.py"), "--check"], capture_output=True, text=True
    )
    if check.returncode:
        raise PluginError(f"the generated pages of docs/reference cannot be used:\n{check.stderr}")
    stamp.write_text(digest)


def _digest() -> str:
    """Returns a digest of all that the generated pages are made of, and of the pages."""
    found = hashlib.blake2b(digest_size=16)
    sources = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*") if file.suffix in (".py", ".yaml")]
    scripts, written = (ROOT / "docs" / "scripts").glob("*.py"), (ROOT / "docs" / "reference").glob("*.md")
    for file in sorted([*sources, *scripts, *written]):
        found.update(str(file).encode() + file.read_bytes())
    return found.hexdigest()


def on_nav(nav: Any, config: Any, files: Any) -> None:
    """Keeps the order of the pages for llms.txt."""
    pages.clear()
    for page in nav.pages:
        section = page.ancestors[-1].title if page.ancestors else "Overview"
        pages[page.file.src_uri] = llms.Page("", section, page.url)


def on_page_content(html: str, page: Any, config: Any, files: Any) -> None:
    """Keeps the text of a page for llms.txt and llms-full.txt."""
    if (kept := pages.get(page.file.src_uri)) is not None:
        pages[page.file.src_uri] = replace(kept, title=page.title, source=page.markdown, html=html)


def on_post_build(config: Any) -> None:
    """Writes llms.txt and llms-full.txt into the site."""
    site, ordered = Path(config.site_dir), list(pages.values())
    base = f"{config.site_url.rstrip('/')}/" if config.site_url else ""
    (site / "llms.txt").write_text(
        llms.index(config.site_name, config.site_description, ordered, base), encoding="utf-8"
    )
    (site / "llms-full.txt").write_text(llms.full(ordered), encoding="utf-8")
