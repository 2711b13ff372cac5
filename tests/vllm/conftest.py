"""These tests run where vLLM is installed: `.ci/run` gives it a virtual environment of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from atomthink_plugin.model_adapters.tiny import WEIGHTS
from atomthink_plugin.servers.openai_client import Server
from tests.openai_server import Body
from tests.vllm import vllm_server

if find_spec("vllm") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session", autouse=True)
def vllm_environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in vllm_server.ENVIRONMENT.items():
            patch.setenv(name, value)
        yield


@pytest.fixture
def posted(monkeypatch: pytest.MonkeyPatch) -> list[Body]:
    """All requests that are sent to servers."""
    bodies: list[Body] = []
    post = Server._post

    async def recorded(self: Server, path: str, body: Mapping[str, Any]) -> str:
        bodies.append(dict(body))
        return await post(self, path, body)

    monkeypatch.setattr(Server, "_post", recorded)
    return bodies


@pytest.fixture(scope="session")
def policy_folder() -> Path:
    """The embedded policy, as it is shipped."""
    return WEIGHTS / "policy"


@pytest.fixture(scope="session")
def policy_server(policy_folder: Path) -> Iterator[vllm_server.VllmServer]:
    options = ("--enable-prompt-tokens-details", "--generation-config", "vllm", "--max-model-len", "2048")
    with vllm_server.serve(policy_folder, *options) as server:
        yield server


@pytest.fixture(scope="session")
def summary_server(policy_folder: Path) -> Iterator[vllm_server.VllmServer]:
    """A second server for the role `summary`. It knows the model by this name only."""
    options = ("--generation-config", "vllm", "--max-model-len", "2048", "--served-model-name", "summary")
    with vllm_server.serve(policy_folder, *options) as server:
        yield server
