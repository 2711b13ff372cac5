"""Which routes to a PRM on a vLLM server use the server's prefix cache.

    python -m benchmarks.prm_routes --json benchmarks/results/prm_routes.json

Needs vLLM in the environment (`.ci/vllm/run` installs one for CPUs). Real servers with tiny random PRMs score
the candidates of one beam search (B = 2, C = 3, six steps of about 30 tokens after a question of about 200) by each
route that returns a step's score. The server's own counters give the number of prompt tokens from its cache.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from atomthink_plugin.api import Path, Step
from atomthink_plugin.inference.preprocessors import load_preprocessor
from atomthink_plugin.scorers.detect import PUBLISHED
from atomthink_plugin.scorers.prm_head import Conversation
from atomthink_plugin.scorers.prm_token import TextLayout
from atomthink_plugin.servers.openai_client import Server
from benchmarks.provenance import provenance
from tests.tiny_models import question
from tests.vllm.vllm_server import VllmServer, causal_prm, head_prm, qwen_prm, serve

BEAMS, CANDIDATES, LEVELS = 2, 3, 6
POOLING = ("--runner", "pooling")


@dataclass(frozen=True)
class Route:
    """One request that returns the score of a path's last step.

    Attributes:
        name: For the table.
        prm: Builds the PRM.
        options: Of `vllm serve`.
        place: The path of the URL.
        body: The body of the request, from the path's token ids.
    """

    name: str
    prm: Callable[[FilePath], FilePath]
    options: tuple[str, ...]
    place: str
    body: Callable[[list[int]], dict[str, Any]]


def _one_token(ids: list[int]) -> dict[str, Any]:
    return {"prompt": ids, "max_tokens": 1, "temperature": 0, "logprobs": 2, "logprob_token_ids": [5, 6]}


ROUTES = (
    Route("tag: one token, logprob_token_ids", causal_prm, (), "/v1/completions", _one_token),
    Route(
        "tag: prompt_logprobs",
        causal_prm,
        (),
        "/v1/completions",
        lambda ids: {"prompt": ids, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 2},
    ),
    Route(
        "classifier: class of the sequence",
        head_prm,
        (*POOLING, "--pooler-config", '{"task": "classify"}'),
        "/classify",
        lambda ids: {"input": ids},
    ),
    Route("classifier: classes of all tokens", head_prm, POOLING, "/pooling", lambda ids: {"input": ids}),
    Route(
        "Qwen2.5-Math-PRM's: LastStepRewardModel",
        qwen_prm,
        (*POOLING, "--hf-overrides", '{"architectures": ["LastStepRewardModel"]}'),
        "/classify",
        lambda ids: {"input": ids},
    ),
    Route("Qwen2.5-Math-PRM's: vLLM's own class", qwen_prm, POOLING, "/pooling", lambda ids: {"input": ids}),
)


def levels() -> list[list[Path]]:
    """The candidates of each level of a beam search; the first of each beam is kept."""
    root = Path(question("There are seven red and nine blue marbles in a box on the table of the room. " * 2))
    beams, found = [root] * BEAMS, []
    for level in range(1, LEVELS + 1):
        texts = [f"Step {level}: Compute {n} + {level} = {n + level}, which is what was asked." for n in range(6)]
        children = [
            beam.extend(Step(texts[at * CANDIDATES + n])) for at, beam in enumerate(beams) for n in range(CANDIDATES)
        ]
        found.append(children)
        beams = children[::CANDIDATES]
    return found


def ids_for(route: Route, folder: FilePath) -> list[list[list[int]]]:
    """Token ids of each candidate as the PRM takes them, by level."""
    words = load_preprocessor(str(folder), images=False).tokenizer
    tag = words.convert_tokens_to_ids("<extra_0>")
    layout: Conversation | TextLayout = Conversation(words, tag)
    if route.prm is causal_prm:
        layout = TextLayout(words, PUBLISHED.tag or "", words.encode(PUBLISHED.tag or "", add_special_tokens=False)[0])
    return [[list(layout.encode(path).ids) for path in level] for level in levels()]


async def score_all(server: VllmServer, route: Route, prompts: Sequence[Sequence[list[int]]]) -> None:
    """Scores level by level, the candidates of a level concurrently."""
    asked = Server(server.url, "", timeout=120, max_retries=0, connections=64)
    root = server.url.removesuffix("/v1")
    for level in prompts:
        bodies = ({"model": str(server.folder), **route.body(ids)} for ids in level)
        await asyncio.gather(*(asked.post(root + route.place, body) for body in bodies))


def measure(route: Route, place: FilePath) -> dict[str, Any]:
    """Returns what the server counted."""
    folder = route.prm(place)
    with serve(folder, "--max-model-len", "512", *route.options) as server:
        asyncio.run(score_all(server, route, ids_for(route, folder)))
        tokens, cached = server.prefix_cache()
    asked = sum(len(ids) for level in ids_for(route, folder) for ids in level)
    # vLLM does not query its cache for requests that may not use it.
    return {"route": route.name, "place": route.place, "prompt_tokens": asked, "looked_up": tokens, "cached": cached}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=FilePath)
    target = parser.parse_args().json
    with TemporaryDirectory() as place:
        rows = [measure(route, FilePath(place) / str(at)) for at, route in enumerate(ROUTES)]
    table = Table("how the PRM is read", "route", "prompt tokens", "from the cache")
    for row in rows:
        share = row["cached"] / row["prompt_tokens"]
        table.add_row(row["route"], f"POST {row['place']}", str(row["prompt_tokens"]), f"{share:.1%}")
    Console().print(table)
    if target:
        versions = {name: importlib.metadata.version(name) for name in ("vllm", "torch", "transformers")}
        record = {**provenance(), "versions": versions, "block_size": 32}
        target.write_text(json.dumps({**record, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
