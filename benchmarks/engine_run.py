"""One measured search for `engine_change.py`, which runs this file with the code of two commits.

    python -m benchmarks.engine_run --model demo --questions 30 --in-flight 30

Prints one line of JSON: `cpu_seconds_per_question`, `seconds_per_question`, `generated` (tokens per question), `digest`
(of all steps, equal for equal searches) and `peak_mib` (growth of the process's memory).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import json
import resource

import torch

from atomthink_plugin.tasks.demo.engine_questions import engine_questions
from atomthink_plugin.tasks.demo.questions import held_out
from benchmarks.baselines import Arm, Ours, run
from benchmarks.search_cost import settings

MODELS = ("demo", "llava")


def peak() -> float:
    """Returns the largest memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, required=True)
    parser.add_argument("--questions", type=int, required=True)
    parser.add_argument("--in-flight", type=int, required=True)
    options = parser.parse_args()
    setting = settings()[MODELS.index(options.model)]
    questions = engine_questions(held_out(options.questions + 1))
    way = Ours(setting)
    asyncio.run(run(way, questions[-1:], 1, Arm("warm")))
    gc.collect()  # a collection of all that was imported takes as long as three questions, and comes at any time
    before, arm = peak(), Arm("ours")
    asyncio.run(run(way, questions[:-1], setting.levels, arm, options.in_flight))
    steps = sorted((path.question.id, path.key, path.steps[-1].text) for tree in arm.trees for path in tree)
    record = {
        "cpu_seconds_per_question": sum(arm.cpu) / options.questions,
        "seconds_per_question": sum(arm.seconds) / options.questions,
        "generated": arm.generated / options.questions,
        "digest": hashlib.sha256(repr(steps).encode()).hexdigest()[:16],
        "peak_mib": peak() - before,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
