"""Keys and values of one search for `prefix_memory.py`, which runs this file with the code of two commits.

    python -m benchmarks.prefix_memory_run --model demo

Searches one question and looks at the engine's own objects each time six samples begin to decode: after their prompts
were read, and before any of their new tokens was. Prints one line of JSON with a record for each such step:
`prompt_tokens` (of all six prompts together), `prompt_bytes` (keys and values of the prompts' tokens, in the batch and
in the prefix tree) and `held_bytes` (all that is held, with the room for new tokens and what is kept of other
candidates).
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
from collections.abc import Sequence
from functools import wraps
from typing import Any

from atomthink_plugin.inference.encoding import Encoding
from atomthink_plugin.tasks.demo.engine_questions import engine_questions
from atomthink_plugin.tasks.demo.questions import held_out
from benchmarks.baselines import BEAMS, CANDIDATES, Arm, Ours, run
from benchmarks.search_cost import settings

MODELS = ("demo", "llava")
SAMPLES = BEAMS * CANDIDATES
SLOTS = "atomthink_plugin.inference.slots"

Records = list[dict[str, int]]


def watch_slots(found: Records) -> None:
    """Measures the slots engine: after the step in which rows join, they have read their prompts and nothing else."""
    from atomthink_plugin.inference.slots.pool import TokenRun
    from atomthink_plugin.inference.slots.running_batch import RunningBatch

    step = RunningBatch.step

    def places(row: Any, prompt: Encoding) -> list[tuple[int, int]]:
        """Returns where a row's tokens are: starts and lengths."""
        runs = [(run.start, len(run)) for run in vars(row).values() if isinstance(run, TokenRun)]
        runs.append((row.own.start, row.length))
        if sum(length for _, length in runs) != prompt.length:
            raise SystemExit(f"{runs} are not all places of {prompt.length} tokens: adapt this script to the engine")
        return runs

    @wraps(step)
    def watched(batch: Any, joining: Any = ()) -> Any:
        result = step(batch, joining)
        if len(batch.samples) == len(joining) == SAMPLES:
            reader, prompts = batch._reader, [one.request.prompt for one in batch.samples]
            holders = [one.holder for one in batch.samples]  # whose rows have the samples' tokens
            runs = [run for one in holders for run in places(one.row, one.request.prompt)]
            for prompt in prompts:
                runs += [(run.start, length) for run, length in reader.tree.find(prompt.root, ids_of(prompt))]
            tokens = len({place for start, length in runs for place in range(start, start + length)})
            found.append(record(prompts, tokens * reader.pool.shape.token_bytes, reader.pool.used_bytes))
        return result

    RunningBatch.step = watched  # type: ignore[method-assign]


def watch_forks(found: Records) -> None:
    """Measures forked caches: before a batch reads its first new token, its cache has the prompts and nothing else."""
    from atomthink_plugin.inference.forking import ForkingDecoder
    from atomthink_plugin.inference.prefix_cache.reader import PrefixReader

    decode, advance = ForkingDecoder._decode, PrefixReader.advance
    beginning: list[Any] = []

    @wraps(decode)
    def watched(decoder: Any, batch: Any, rows: Any) -> Any:
        beginning[:] = [row.prompt for row in rows]
        return decode(decoder, batch, rows)

    @wraps(advance)
    def measured(reader: Any, batch: Any, tokens: Any) -> None:
        if len(batch.mask) == len(beginning) == SAMPLES:
            pieces = [piece for prompt in beginning for piece in reader.tree.find(prompt.root, ids_of(prompt))]
            along = sum({piece.data_ptr(): piece.nbytes for piece in pieces}.values())  # all prompts end with a node
            filled = sum(half.nbytes for layer in batch.cache.layers for half in (layer.keys, layer.values))
            space = sum(half.nbytes for layer in batch.cache.layers for half in layer._space)
            found.append(record(beginning, filled + along, space + reader.tree.size))
        beginning.clear()
        advance(reader, batch, tokens)

    ForkingDecoder._decode = watched  # type: ignore[method-assign]
    PrefixReader.advance = measured  # type: ignore[method-assign]


def ids_of(prompt: Any) -> tuple[int, ...]:
    """Returns the token ids of a prompt, by the names that both codes have for them."""
    return tuple(prompt.ids if hasattr(prompt, "ids") else prompt.tokens["input_ids"][0].tolist())


def record(prompts: Sequence[Encoding], prompt_bytes: int, held_bytes: int) -> dict[str, int]:
    tokens = sum(prompt.length for prompt in prompts)
    return {"prompt_tokens": tokens, "prompt_bytes": prompt_bytes, "held_bytes": held_bytes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, required=True)
    options = parser.parse_args()
    setting = settings()[MODELS.index(options.model)]
    way = Ours(setting)
    question, warm = engine_questions(held_out(2))
    asyncio.run(run(way, [warm], 1, Arm("warm")))  # with the comparison that a model's first prompts bring
    decoder: Any = way._policy._decoder
    decoder.forget()
    found: Records = []
    watch = watch_slots if importlib.util.find_spec(SLOTS) is not None else watch_forks
    watch(found)
    asyncio.run(run(way, [question], setting.levels, Arm("measured")))
    print(json.dumps({"decoder": type(decoder).__name__, "samples": SAMPLES, "steps": found}))


if __name__ == "__main__":
    main()
