"""The cost of a beam search, compared with the same search as in AtomThink's published code.

    python -m benchmarks.search_cost --json benchmarks/results/search_cost.json

Both implementations (`baselines.py`) search the same questions, in turns of a few questions, in one process. There are
two models: the embedded one with its own multimodal PRM, and a LLaVA with random weights, 576 image tokens and six
steps of 32 tokens, with a text PRM of the published kind (a causal language model that is read at a tag).

Prefilled tokens are given as a ratio to the distinct tokens: those of one question's search tree, each counted once, as
token ids of the model. A token counts again only after a different prefix, so the question and common beginnings of
sibling steps count once. A PRM has to read at least the distinct tokens. A policy's ratio can be below 1, because its
own steps are in the KV cache already. Questions share no tokens.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from pathlib import Path as FilePath

import torch
from rich.console import Console
from rich.table import Table

from atomthink_plugin.api import Question, Sampling
from atomthink_plugin.inference.checkpoints import load_multimodal
from atomthink_plugin.model_adapters.tiny import WEIGHTS
from atomthink_plugin.tasks.demo.engine_questions import engine_questions
from atomthink_plugin.tasks.demo.questions import held_out
from benchmarks.baselines import (
    BEAMS,
    CANDIDATES,
    Arm,
    Ours,
    Published,
    SeeingJudge,
    Setting,
    TagJudge,
    embedded,
    run,
    tagged,
)
from benchmarks.provenance import provenance
from benchmarks.random_models import SIZES, random_policy, random_prm

TURN = 30
"""Questions of a turn. Ours has all of them in flight, the published code one after the other."""


def compare(setting: Setting, questions: Sequence[Question]) -> tuple[Arm, Arm]:
    """Runs both implementations on the questions, in turns."""
    arms = Arm("ours"), Arm("published way")
    ways = Ours(setting), Published(setting)

    async def main() -> None:
        for start in range(0, len(questions), TURN):
            for way, arm in zip(ways, arms, strict=True):
                await run(way, questions[start : start + TURN], setting.levels, arm)

    asyncio.run(main())
    for way, arm in zip(ways, arms, strict=True):
        arm.count(way)
    return arms


def settings() -> list[Setting]:
    policy, prm = (load_multimodal(str(WEIGHTS / name), device="cpu") for name in ("policy", "prm"))
    demo = Sampling(0.0, rise=0.5, max_tokens=48)
    size, where = SIZES["40m"], (torch.device("cpu"), torch.float32)
    steady = Sampling(0.8, rise=0.2, max_tokens=32)
    return [
        Setting("demo model", policy, prm, embedded, SeeingJudge, demo, levels=12),
        Setting(
            "random LLaVA, 576 image tokens",
            random_policy(size, *where),
            random_prm(size, *where),
            tagged,
            TagJudge,
            steady,
            levels=6,
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=32)
    parser.add_argument(
        "--random-questions", type=int, default=32, help="for the model with random weights; 0 leaves a model out"
    )
    parser.add_argument("--json", type=FilePath)
    options = parser.parse_args()
    grid = Table(title=f"beam search, B = {BEAMS}, C = {CANDIDATES}")
    rows, record = [], {}
    where = {**provenance(), "threads": torch.get_num_threads()}
    for setting, count in zip(settings(), (options.questions, options.random_questions), strict=True):
        if count == 0:
            continue
        arms = compare(setting, engine_questions(held_out(count)))
        ours, published = measured = {arm.name: arm.numbers() for arm in arms}.values()
        ratios = {
            "wall_time_ratio": published["seconds_per_question"] / ours["seconds_per_question"],
            "cpu_time_ratio": published["cpu_seconds_per_question"] / ours["cpu_seconds_per_question"],
        }
        ways = {arm.name: values for arm, values in zip(arms, measured, strict=True)}
        record[setting.name] = {**where, "questions": count, **ways, **ratios}
        rows += [(setting.name, arm.name, values, ratios) for arm, values in zip(arms, measured, strict=True)]
    for heading in ("model", "way", *rows[0][2], "ratio"):
        grid.add_column(heading.replace("_", " "), justify="right")
    for model, name, values, ratios in rows:
        shown = [f"{value:.3g}" for value in values.values()]
        grid.add_row(model, name, *shown, f"{ratios['wall_time_ratio']:.1f}" if name == "ours" else "")
    Console(width=200).print(grid)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        before = json.loads(options.json.read_text()) if options.json.exists() else {}
        options.json.write_text(json.dumps(before | record, indent=1) + "\n")


if __name__ == "__main__":
    main()
