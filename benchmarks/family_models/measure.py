"""Builds models of some types, runs them and writes one line of JSON for each type.

    python -m benchmarks.family_models.measure --out FILE --timeout 60 TYPE ...

It is a process of its own, because a type may crash or never return. `benchmarks/families.py` starts it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import resource
import tempfile
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from PIL import Image

from atomthink_plugin import load
from atomthink_plugin.api import AtomThinkError, Message, Outcome, Prompt, Question, Sampling, Step
from atomthink_plugin.model_adapters import transformers_policy
from atomthink_plugin.searches.quick import quick
from benchmarks.family_models.build import NotBuiltError, architectures, build
from benchmarks.family_models.facts import Facts
from benchmarks.family_models.facts_a_to_kosmos import FACTS as FIRST
from benchmarks.family_models.facts_after_kosmos import FACTS as SECOND
from benchmarks.family_models.plain import PlainModel, Reply

FACTS: Final = {**FIRST, **SECOND}
TOKENS: Final = 6
STEPS: Final = ("Step 1: Look at what is asked.\n\n", "Step 2: Compute 1 + 1 = 2.\n\n")

Record = dict[str, Any]

_POLICY_LOG: Final = logging.getLogger(transformers_policy.__name__)


def questions() -> dict[str, tuple[Message, ...]]:
    """Returns a question with an image, one without and one with two."""
    first, second = (_picture(seed, size) for seed, size in ((0, (64, 48)), (1, (48, 64))))
    return {
        "image": (Message("user", (first, "How many?")),),
        "text": (Message("user", ("How many are three and four?",)),),
        "two images": (Message("user", (first, second, "Are they equal?")),),
    }


def _picture(seed: int, size: tuple[int, int]) -> Image.Image:
    pixels = torch.randint(0, 255, (size[1], size[0], 3), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(pixels.to(torch.uint8).numpy())


def measure(kind: str, folder: Path) -> Record:
    """Returns how a type is built and run."""
    facts = FACTS.get(kind, Facts())
    try:
        build(kind, facts, folder)
    except Exception as error:
        return {"built": False, "reason": _reason(error)}
    try:
        plain = PlainModel(folder, TOKENS)
    except Exception as error:
        if facts.answers:
            return {"built": False, "reason": _reason(error)}
        return {"built": True, "plain": dict.fromkeys(questions(), _reason(error))} | _run(folder, None, {})
    replies = {name: _plain_replies(plain, messages) for name, messages in questions().items()}
    works = {name: reply for name, reply in replies.items() if not isinstance(reply, str)}
    for name in facts.answers:
        if name not in works:
            return {"built": False, "reason": f"plain generate: {replies[name]}"}
    record: Record = {"built": True, "image matters": "image" in works and _image_matters(plain), "plain": {}}
    record["plain"] = {name: reply if isinstance(reply, str) else "" for name, reply in replies.items()}
    return record | _run(folder, plain, works)


def _plain_replies(plain: PlainModel, messages: tuple[Message, ...]) -> Reply | str:
    try:
        return plain.first(messages)
    except Exception as error:
        return _reason(error)


def _image_matters(plain: PlainModel) -> bool:
    """Returns whether another picture of the same size changes what the model predicts."""
    (question,) = questions()["image"]
    other = Message("user", (_picture(2, (64, 48)), *question.parts[1:]))
    one, two = (plain.first((turn,)) for turn in (question, other))
    return not torch.allclose(one.scores[0], two.scores[0], atol=1e-5)


def _run(folder: Path, plain: PlainModel | None, works: dict[str, Reply]) -> Record:
    """Returns how a checkpoint runs, and why not better."""
    fallbacks = Fallbacks()
    with fallbacks:
        record = _outcome(folder, plain, works)
    return {"reason": "; ".join(dict.fromkeys(fallbacks.reasons)), **record}


def _outcome(folder: Path, plain: PlainModel | None, works: dict[str, Reply]) -> Record:
    """Loads the checkpoint as `atomthink_hf` does and compares its replies."""
    search = {"thinking": "slow", "search": "beam", "scorer": "confidence", "beams": 2, "candidates": 2}
    limits = {"device": "cpu", "batch_size": 8, "step_tokens": 8, "max_steps": 3}
    try:
        loaded = load("atomthink_hf", pretrained=str(folder), **search, **limits)
    except AtomThinkError as error:
        return {"outcome": "refused", "reason": str(error)}
    except Exception as error:
        return {"outcome": "crashed", "reason": _reason(error)}
    runner = loaded.runner
    asked = questions()
    record: Record = {"searches": {}}
    if plain is not None:
        record["replies"] = asyncio.run(_replies(runner.policy, plain, works))
    for name in asked:
        for search, one in (("quick", replace(runner, search=quick())), ("beam", runner)):
            record["searches"][f"{search}, {name}"] = _searched(one, Question(name, asked[name]))
    return record | {"outcome": runner.policy.decoding}


class Fallbacks(logging.Handler):
    """Keeps the reasons that a policy logs when it falls back to another way of decoding."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.reasons: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the last argument of such a message, which is in brackets in its text."""
        if "(%s)" in str(record.msg) and isinstance(record.args, tuple):
            self.reasons.append(str(record.args[-1]))

    def __enter__(self) -> None:
        _POLICY_LOG.setLevel(logging.INFO)
        _POLICY_LOG.addHandler(self)

    def __exit__(self, *error: object) -> None:
        _POLICY_LOG.removeHandler(self)


async def _replies(policy: Any, plain: PlainModel, works: dict[str, Reply]) -> Record:
    """Returns how greedy replies compare, all asked for at once: `same`, or what is different."""
    found: Record = {}

    async def one(name: str, prompt: Prompt, expected: Reply) -> None:
        try:
            proposal = await policy.propose(prompt, 1, Sampling(max_tokens=TOKENS))
        except Exception as error:
            found[name] = _fault(error)
            return
        found[name] = expected.differs(proposal.steps[0].token_ids, plain.end) or "same"

    tasks = []
    for name, messages in questions().items():
        if name not in works:
            continue
        later = Prompt(messages, tuple(Step(step) for step in STEPS), depth=2)
        tasks.append(one(f"{name}, first", Prompt(messages), works[name]))
        try:
            tasks.append(one(f"{name}, later", later, plain.later(later)))
        except Exception as error:
            found[f"{name}, later"] = _fault(error)
    await asyncio.gather(*tasks)
    return found


def _searched(runner: Any, question: Question) -> str:
    try:
        outcome: Outcome = asyncio.run(runner.think(question))
    except Exception as error:
        return _fault(error)
    return "" if outcome.nodes else "no steps"


def _fault(error: Exception) -> str:
    return f"refused: {error}" if isinstance(error, AtomThinkError) else _reason(error)


def _reason(error: BaseException) -> str:
    """Returns an error and where it was raised."""
    if isinstance(error, NotBuiltError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    text = " ".join(str(error).split())[:300]
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {text} ({where})"


def limit_cpu(seconds: int) -> None:
    """Ends this process after so many more CPU seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + seconds, resource.RLIM_INFINITY))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("types", nargs="+", choices=sorted(architectures()), metavar="TYPE")
    parser.add_argument("--out", type=Path, required=True, help="file to which a line is added for each type")
    parser.add_argument("--timeout", type=int, default=60, help="CPU seconds of each type")
    parser.add_argument("--keep", type=Path, help="folder that keeps the models")
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("atomthink_plugin").setLevel(logging.ERROR)
    for kind in options.types:
        limit_cpu(options.timeout)
        with tempfile.TemporaryDirectory() as scratch:
            folder = options.keep / kind if options.keep else Path(scratch)
            line = json.dumps({"type": kind, **measure(kind, folder)})
        with options.out.open("a") as out:
            out.write(line.replace(str(folder), kind) + "\n")


if __name__ == "__main__":
    main()
