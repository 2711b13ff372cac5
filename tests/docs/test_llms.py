"""llms.txt and llms-full.txt."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def llms() -> Any:
    scripts = str(Path(__file__).parents[2] / "docs" / "scripts")
    sys.path.insert(0, scripts)
    yield importlib.import_module("llms")
    sys.path.remove(scripts)


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        ("# Title\n\nOne thing. Another.\n", "One thing."),
        ("# Title\n\n> A note.\n\n```bash\ntyped here\n```\n\nThe e.g. lower\ncase [link](a.md#b) stays. Next.", None),
        ("# Title\n\n| a | b |\n|---|---|\n\n- item\n\n![picture](a.png)\n", ""),
        ("# Title\n\nUse `a.b` now. `c` later.", "Use `a.b` now."),
    ],
)
def test_the_first_sentence_of_a_page_is_its_first_prose(llms: Any, page: str, sentence: str | None) -> None:
    assert llms.first_sentence(page) == ("The e.g. lower case link stays." if sentence is None else sentence)


def test_the_index_lists_every_page_in_its_section(llms: Any) -> None:
    pages = [
        llms.Page("Home", "Overview", "", "# Home\n\nWelcome. Read on."),
        llms.Page("First run", "Tutorials", "tutorials/first-run/", "# First\n\nYou run it."),
        llms.Page("Troubleshooting", "Overview", "troubleshooting/", "# Troubleshooting\n"),
    ]
    assert llms.index("name", "About.", pages, "https://example.org/").splitlines() == [
        "# name",
        "",
        "> About.",
        "",
        "## Overview",
        "",
        "- [Home](https://example.org/): Welcome.",
        "- [Troubleshooting](https://example.org/troubleshooting/)",
        "",
        "## Tutorials",
        "",
        "- [First run](https://example.org/tutorials/first-run/): You run it.",
    ]


@pytest.mark.parametrize("directive", ["::: package.load", '--8<-- "CHANGELOG.md"'])
def test_the_full_text_has_what_a_page_includes(llms: Any, directive: str) -> None:
    html = (
        "<h2>load<a href='#load'>¶</a></h2><p>Loads a\n model.</p><ul><li>name</li></ul><pre><code>a\n  b</code></pre>"
    )
    pages = [
        llms.Page("A", "B", "a/", "# A\n\nText."),
        llms.Page("API", "B", "api/", f"# API\n\n{directive}", html),
    ]
    full = llms.full(pages)
    assert "# A\n\nText." in full
    assert directive not in full
    assert "[API](api/): Loads a model." in llms.index("name", "About.", pages)
    assert "## load\n" in full
    assert "Loads a model.\n" in full
    assert "- name\n" in full
    assert "```\na\n  b\n```" in full
