"""A judge server on loopback that replies 1 to everything and records its requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass
class Judge:
    """The server's URL, and the key and the prompt of each request."""

    url: str = ""
    asked: list[tuple[str | None, str]] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    judge: Judge

    def log_message(self, format: str, *args: Any) -> None:
        """Keeps the tests' output quiet."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.judge.asked.append((self.headers.get("Authorization"), str(body["messages"][0]["content"])))
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "1"}}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        reply = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"]}
        written = json.dumps({**reply, "choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(written)))
        self.end_headers()
        self.wfile.write(written)


@contextmanager
def judging() -> Iterator[Judge]:
    judge = Judge()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"judge": judge}))
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    judge.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield judge
    finally:
        server.shutdown()
        server.server_close()
