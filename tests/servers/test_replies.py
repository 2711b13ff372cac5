"""Names that are one model's."""

from __future__ import annotations

import pytest

from atomthink_plugin.servers.replies import same_model


@pytest.mark.parametrize(
    ("asked", "replied", "same"),
    [
        ("org/model", "org/model", True),
        ("Qwen/Qwen3-VL-8B", "qwen/qwen3-vl-8b", True),
        ("gpt-4o", "gpt-4o-2024-08-06", True),
        ("gpt-4-0613", "gpt-4", True),
        ("gpt-4o", "openai/gpt-4o-2024-08-06", True),
        ("claude-3-5-sonnet-latest", "claude-3-5-sonnet-20241022", True),
        ("models/gemini-2.0-flash", "gemini-2.0-flash-001", True),
        ("claude-3-5-sonnet", "claude-3-5-sonnet-latest", True),
        ("llama3.2", "llama3.2:latest", True),
        ("llama3.2:latest", "llama3.2", True),
        ("llama3.2:1b", "llama3.2:latest", False),
        ("gpt-4o", "gpt-4o-mini", False),
        ("gpt-4", "gpt-4.1", False),
        ("gpt-4o-2024-08-06", "gpt-4o-2024-11-20", False),
        ("llama-3", "llama-3-70b", False),
        ("meta/llama-3-8b", "other/llama-3-8b", False),
        ("llama", "tinyllama", False),
    ],
)
def test_aliases_are_distinguished_from_other_models(asked: str, replied: str, same: bool) -> None:
    assert same_model(asked, replied) is same
