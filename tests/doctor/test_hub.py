"""The request of `atomthink doctor` to the model hub."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants

from atomthink_plugin.doctor import hub
from atomthink_plugin.doctor.hub import HubRequest

TOKEN = "hf_doctorTokenX93kQ2"


class Hub(BaseHTTPRequestHandler):
    """Answers with the status that the path names."""

    waits = threading.Event()

    def do_HEAD(self) -> None:
        status = int(self.path.strip("/") or 0)
        if not status:
            self.waits.wait(30)
            return
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    Hub.waits.set()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "named"), [("/200", None), ("/503", "HTTP 503"), ("/", "Timeout"), ("offline", "HF_HUB_OFFLINE")]
)
def test_the_hub_is_asked_once_with_a_timeout(
    path: str, named: str | None, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "TIMEOUT", 1.0 if named == "Timeout" else 60.0)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", path == "offline")
    monkeypatch.setattr(constants, "ENDPOINT", address + path)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    from huggingface_hub.utils import _http

    monkeypatch.setattr(_http, "_GLOBAL_CLIENT", None)
    finding = HubRequest().finding()
    ((_, text),) = finding.facts
    assert "with a token" in text
    assert TOKEN not in text
    assert len(finding.problems) == (named is not None)
    assert named is None or named in text
