"""Served PRMs before any server is asked; on real servers in tests/vllm."""

from __future__ import annotations

from pathlib import Path

import pytest

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.scorers.served_token import served_prm_token
from tests.tiny_models import llava


def test_a_template_that_servers_would_continue_in_another_way_is_refused(tmp_path: Path) -> None:
    section = {"kind": "token", "format": "continue", "tag": "<pad>", "good": "<+>", "bad": "<->"}
    prm = llava(tmp_path / "prm", atomthink_prm=section)
    with pytest.raises(AtomThinkError, match="chat template writes a begun reply in another way"):
        served_prm_token(str(prm), base_url="http://127.0.0.1:9/v1", max_retries=0, wait=0)
