"""Every heading of the troubleshooting page is a part of a message that the code, or a named dependency, still has."""

from __future__ import annotations

import ast
import importlib
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"
FOLDERS = ("atomthink_plugin", "model_adapters", "tasks", "training")
HEADINGS = re.findall(r"^### (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
"""A quoted fragment of a message, with the distribution in parentheses if the message is not ours."""


@cache
def our_texts() -> str:
    """Returns all texts in the sources but docstrings, with a line break where a message has a value."""
    texts = []
    for folder in FOLDERS:
        for file in (ROOT / folder).rglob("*.py"):
            nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
            docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
            constants = (node for node in nodes if isinstance(node, ast.Constant) and id(node) not in docstrings)
            texts += [constant.value for constant in constants if isinstance(constant.value, str)]
    return "\n".join(texts)


def has_text(distribution: str, fragment: str) -> bool:
    """Returns whether a source file of a distribution has a text, in any case."""
    sources = (Path(str(file.locate())) for file in files(distribution) or () if file.suffix == ".py")
    return any(fragment.casefold() in file.read_text(encoding="utf-8").casefold() for file in sources)


def test_the_page_has_messages() -> None:
    assert len(HEADINGS) > 50
    assert len(set(HEADINGS)) == len(HEADINGS)


@pytest.mark.parametrize("heading", HEADINGS)
def test_a_message_is_still_there(heading: str) -> None:
    fragments = re.findall(r"`([^`]+)`", heading)
    assert fragments
    source = re.search(r"\(([^()]+)\)$", heading)
    for fragment in fragments:
        if source is None:
            assert fragment in our_texts()
        elif source[1] == "Python":
            with pytest.raises(ModuleNotFoundError, match=re.escape(fragment)):
                importlib.import_module("a_module_that_is_not_there")
        else:
            try:
                assert has_text(source[1], fragment)
            except PackageNotFoundError:
                pytest.skip(f"{source[1]} is not installed")
