"""A real HTTP server that speaks the chat protocol over a scripted model, whole or with parts of it missing."""

from __future__ import annotations

import base64
import gzip
import json
import random
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from threading import Event, Lock, Thread
from typing import Any, Literal

from PIL import Image

Fault = (
    int
    | Literal["drop", "hang", "trickle", "garbage", "text", "list", "empty", "filtered", "null", "error", "few", "many"]
    | Literal["flood", "compressed flood"]
)
"""An HTTP status, or what else goes wrong with a reply."""

Body = dict[str, Any]

_HISTORY = re.compile(r"HISTORICAL REASONING STEPS:\n(.*?)\n\nYour task is", re.DOTALL)
_PIECE = re.compile(r"\s+|\S+")


def story(history: str, temperature: float, seed: int) -> str:
    """The rest of a chain that concludes with its third step; what it says depends on all three."""
    rng = random.Random(f"{history}|{temperature}|{seed}" if temperature else history)
    steps = []
    for number in range(len(re.findall(r"^Step \d+:", history, re.MULTILINE)) + 1, 4):
        told = rng.randrange(100, 1000)
        steps.append(
            f"Step {number}: To sum up, the final answer is: {told}." if number == 3 else f"Step {number}: Read {told}."
        )
    return "\n\n".join(steps) or "Nothing more."


def pieces_of(text: str) -> list[str]:
    """The tokens of a text."""
    return _PIECE.findall(text)


def text_of(content: str | list[Body]) -> str:
    if isinstance(content, str):
        return content
    return "".join(part["text"] if part["type"] == "text" else "<image>" for part in content)


def parts_of(body: Body) -> list[Body]:
    return [part for turn in body["messages"] if isinstance(turn["content"], list) for part in turn["content"]]


def images_of(body: Body) -> list[Image.Image]:
    urls = [part["image_url"]["url"] for part in parts_of(body) if part["type"] == "image_url"]
    assert all(url.startswith("data:image/png;base64,") for url in urls)
    return [Image.open(BytesIO(base64.b64decode(url.split(",")[1]))) for url in urls]


def history_of(body: Body) -> str:
    last = body["messages"][-1]
    if last["role"] == "assistant":
        return str(last["content"])
    found = _HISTORY.search(text_of(last["content"]))
    return found[1] if found else ""


@dataclass
class ChatServer:
    """What the server has, and what it was asked.

    `speaks` is the model: history, temperature and seed to all it would write. `faults` are taken one by one
    by chat requests, `always` holds for all of them. `headers` are those of all
    replies: what clients wait before the next try, as their own pauses are for real servers. `redirects` maps paths
    to a status and where it leads. `claims` replaces parts of every reply. `routes` maps further paths to functions
    that return the status and the body of the reply to a request.
    """

    speaks: Callable[[str, float, int], str] = story
    key: str | None = None
    models: tuple[str, ...] | None = ("scripted",)
    listing: int | None = None  # HTTP status of the list of models, None where there is one
    root: str | None = None  # the checkpoint of the models, as vLLM lists it
    owner: str | None = None  # of the models, `vllm` for those of vLLM
    names: Literal["kept", "no picture refused", "refused"] = "refused"  # what becomes of named pictures
    kept: set[str] = field(default_factory=set)  # names of pictures
    most: int | None = None  # choices of one reply
    refuses_n: bool = False
    logprobs: Literal["given", "without tops", "silent", "refused"] = "given"
    continues: Literal["yes", "ignored", "refused"] = "yes"
    limit_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    counted: bool = True
    context: int = 10_000
    headers: dict[str, str] = field(default_factory=lambda: {"retry-after-ms": "1"})
    redirects: dict[str, tuple[int, str]] = field(default_factory=dict)
    claims: Body = field(default_factory=dict)
    routes: Mapping[str, Callable[[Body], tuple[int, Any]]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    always: Fault | None = None
    asked: list[Body] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    ranks: list[str | None] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    url: str = ""
    lock: Lock = field(default_factory=Lock)
    closing: Event = field(default_factory=Event)

    def fault(self, body: Body) -> Fault | None:
        """What goes wrong with a request."""
        return self.faults.pop(0) if self.faults else self.always

    def sampled(self) -> list[Body]:
        """The requests after the check, which asks for 16 tokens."""
        return [body for body in self.asked if body.get("max_tokens", body.get("max_completion_tokens")) != 16]

    def refusal(self, body: Body) -> tuple[int, Body] | None:
        if body["model"] not in (self.models or ("scripted",)):
            message = f"The model `{body['model']}` does not exist."
            return 404, {"error": {"message": message, "code": "model_not_found"}}
        pictures = [part for part in parts_of(body) if part["type"] == "image_url"]
        wrong = [
            (self.names == "refused" and any("uuid" in part for part in pictures), "extra inputs: uuid", None),
            (
                self.names != "kept" and any(part["image_url"] is None for part in pictures),
                "image_url: input should be a dictionary",
                None,
            ),
            (
                any(part["image_url"] is None and part["uuid"] not in self.kept for part in pictures),
                "Cache miss for image at index 0 but data is not provided.",
                None,
            ),
            ("logprobs" in body and self.logprobs == "refused", "logprobs is not supported by this model", "logprobs"),
            ("n" in body and self.refuses_n, "only one completion choice is allowed", "n"),
            (
                "continue_final_message" in body and self.continues == "refused",
                "unrecognized request argument: continue_final_message",
                None,
            ),
            (body.get("top_logprobs", 0) > 20, "top_logprobs must be at most 20", "top_logprobs"),
            (len(body.get("stop", [])) > 4, "too many stop strings", "stop"),
        ]
        for applies, message, param in wrong:
            if applies:
                return 400, {"error": {"message": message, "param": param, "code": None}}
        if self.limit_name not in body:
            message = f"Unsupported parameter: 'max_tokens'. Use '{self.limit_name}' instead."
            return 400, {"error": {"message": message, "param": "max_tokens", "code": "unsupported_parameter"}}
        if self.prompt_tokens(body) + body[self.limit_name] > self.context:
            message = f"This model's maximum context length is {self.context} tokens; asked with {sorted(body)}."
            return 400, {"error": {"message": message}}
        self.kept.update(part["uuid"] for part in pictures if "uuid" in part)
        return None

    def prompt_tokens(self, body: Body) -> int:
        turns = sum(2 + len(pieces_of(text_of(turn["content"]))) for turn in body["messages"])
        return turns if self.continued(body) else turns + 1

    def continued(self, body: Body) -> bool:
        return self.continues == "yes" and body.get("continue_final_message") is True

    def choice(self, body: Body, index: int) -> tuple[Body, int]:
        history = history_of(body)
        text = self.speaks(history, body["temperature"], body.get("seed", 0) + index)
        text, pieces, finish = generate(text, body.get("stop", []), body[self.limit_name])
        choice: Body = {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
        if "logprobs" in body and self.logprobs in ("given", "without tops"):
            choice["logprobs"] = {"content": [self.position(piece, body.get("top_logprobs", 0)) for piece in pieces]}
        return choice, len(pieces)

    def position(self, piece: str, tops: int) -> Body:
        """A token with its log-probability and, as vLLM lists them, itself before the likeliest ones."""
        said = {"token": piece, "logprob": logprob(piece), "bytes": list(piece.encode())}
        if not tops or self.logprobs == "without tops":
            return said
        likeliest = [{"token": f"<{at}>", "logprob": one} for at, one in enumerate(rivals(piece))]
        by_rank = sorted([said, *likeliest], key=lambda one: -one["logprob"])[:tops]
        return {**said, "top_logprobs": [said, *(one for one in by_rank if one is not said)][:tops]}

    def reply(self, body: Body) -> Body:
        count = min(body.get("n", 1), self.most or 100)
        choices = [self.choice(body, index) for index in range(count)]
        prompt = self.prompt_tokens(body)
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": sum(tokens for _, tokens in choices),
            "prompt_tokens_details": {"cached_tokens": prompt // 2},
        }
        # The order of choices is the index's, whatever the order in the list.
        reply: Body = {"object": "chat.completion", "choices": [choice for choice, _ in reversed(choices)]}
        return {**reply, **({"usage": usage} if self.counted else {}), **self.claims}


def generate(text: str, stops: list[str], limit: int) -> tuple[str, list[str], str]:
    """What a server does: samples pieces until one of the stop strings is there, the limit is, or all is said."""
    pieces: list[str] = []
    for piece in pieces_of(text):
        pieces.append(piece)
        so_far = "".join(pieces)
        found = [so_far.index(stop) for stop in stops if stop in so_far]
        if found:
            return so_far[: min(found)], pieces, "stop"
        if len(pieces) == limit:
            return so_far, pieces, "length"
    return text, pieces, "stop"


def logprob(piece: str) -> float:
    return -len(piece) / 8


def rivals(piece: str) -> list[float]:
    """Log-probabilities of 30 other tokens in a piece's place: some likelier, most less likely than it."""
    return [-0.15 - 0.2 * at for at in range(30)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: ChatServer

    def log_message(self, format: str, *args: Any) -> None:
        """Keeps the tests' output quiet."""

    def do_GET(self) -> None:
        if self.script.listing is not None:
            return self.send(self.script.listing, {"error": {"message": "scripted"}})
        if self.script.models is None:
            return self.send(404, {"error": {"message": "Not Found"}})
        about = {"root": self.script.root, "owned_by": self.script.owner}
        listed = [{"id": name, **about} for name in self.script.models]
        self.send(200, {"object": "list", "data": listed})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        script = self.script
        with script.lock:
            script.asked.append(body)
            script.keys.append(self.headers.get("Authorization"))
            script.ranks.append(self.headers.get("X-data-parallel-rank"))
            script.in_flight += 1
            script.most_in_flight = max(script.most_in_flight, script.in_flight)
            fault = script.fault(body)
        try:
            self.answer(body, fault)
        finally:
            with script.lock:
                script.in_flight -= 1

    def answer(self, body: Body, fault: Fault | None) -> None:
        script = self.script
        if self.path in script.redirects:
            status, location = script.redirects[self.path]
            return self.send_raw(status, b"", headers={"Location": location})
        if self.path not in ("/v1/chat/completions", "/elsewhere", *script.routes):
            return self.send(404, {"detail": "Not Found"})
        if script.key is not None and self.headers.get("Authorization") != f"Bearer {script.key}":
            # As the worst of servers would: with the key in its answer.
            return self.send(401, {"error": {"message": f"bad key {self.headers.get('Authorization')}"}})
        if isinstance(fault, int):
            return self.send(fault, {"error": {"message": f"scripted, for {self.headers.get('Authorization')}"}})
        if self.path in script.routes:
            return self.send(*script.routes[self.path](body))
        if fault is not None:
            return self.spoil(fault, body)
        refusal = script.refusal(body)
        if refusal is not None:
            return self.send(*refusal)
        self.send(200, script.reply(body))

    def spoil(self, fault: Fault, body: Body) -> None:
        reply = self.script.reply(body)
        match fault:
            case "drop":
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
            case "hang":
                self.script.closing.wait()
                self.close_connection = True
            case "trickle":
                self.send_response(200)
                self.send_header("Content-Length", "100000")
                self.end_headers()
                while not self.script.closing.wait(0.02):
                    try:
                        self.wfile.write(b" ")
                    except OSError:
                        break
                self.close_connection = True
            case "flood":
                self.send(200, {**reply, "filler": [[1, 2, 3]] * 1_000_000})
            case "compressed flood":
                reply = {**reply, "filler": "x" * 50_000_000}
                self.send_raw(200, gzip.compress(json.dumps(reply).encode(), 1), headers={"Content-Encoding": "gzip"})
            case "garbage":
                self.send_raw(200, b'{"choices": [{"mess')
            case "text":
                self.send_raw(200, b"<html>welcome</html>", "text/html")
            case "list":
                self.send(200, [1, 2])
            case "empty":
                self.send(200, {**reply, "choices": []})
            case "null":
                self.send(200, {**reply, "choices": [{"index": 0, "message": None}]})
            case "error":
                self.send(200, {"error": {"message": "the engine has died", "code": 500}})
            case "few":
                self.send(200, {**reply, "choices": reply["choices"][-1:]})
            case "many":
                self.send(200, self.script.reply({**body, "n": body.get("n", 1) + 2}))
            case "filtered":
                for choice in reply["choices"]:
                    choice |= {"finish_reason": "content_filter", "message": {"content": None}}
                self.send(200, reply)

    def send(self, status: int, body: Any) -> None:
        self.send_raw(status, json.dumps(body).encode())

    def send_raw(
        self, status: int, body: bytes, kind: str = "application/json", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in {"Content-Type": kind, **self.script.headers, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Slow(ChatServer):
    """Takes a while over each reply, so that there is always something to interrupt."""

    def reply(self, body: Body) -> Body:
        time.sleep(0.02)
        return super().reply(body)


def main() -> None:
    """Serves on the port that is named, until it is killed."""
    run_forever(_Slow(), int(sys.argv[1]))


def run_forever(script: ChatServer, port: int) -> None:
    """Serves `script` on a port, until the process is killed."""
    _Server(("127.0.0.1", port), type("Handler", (_Handler,), {"script": script})).serve_forever()


@contextmanager
def serve(script: ChatServer, port: int = 0) -> Iterator[ChatServer]:
    """Serves `script` on a port, a free one if none is named; its address is `script.url`."""
    server = _Server(("127.0.0.1", port), type("Handler", (_Handler,), {"script": script}))
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    script.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield script
    finally:
        script.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


if __name__ == "__main__":
    main()
