"""`atomthink annotate --way dynamic|augment`: from questions to chains by a teacher."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from atomthink_plugin.training.annotate import prompts
from atomthink_plugin.training.annotate.augment import expand
from atomthink_plugin.training.annotate.dynamic import grow
from atomthink_plugin.training.annotate.engine import Engine, Finished, Task
from atomthink_plugin.training.annotate.outputs import Lost, Made
from atomthink_plugin.training.annotate.questions import Item, Items
from atomthink_plugin.training.annotate.solving import AttemptSettings, Way, solve
from atomthink_plugin.training.annotate.teacher import Teacher
from atomthink_plugin.training.records import Chain, read_images
from atomthink_plugin.version import __version__

WAYS: Final[Mapping[str, Way]] = {"dynamic": grow, "augment": expand}


async def annotate(
    found: Items, folder: Path, teacher: Teacher, engine: Engine, way: str, settings: AttemptSettings
) -> tuple[Made, Finished]:
    """Asks a teacher for a chain for every question.

    Args:
        found: The questions and what is none.
        folder: What their images are relative to.
        teacher: Who is asked.
        engine: How many at the same time, and where it is kept.
        way: A name of `WAYS`.
        settings: How hard each is tried.
    """
    lost = [Lost(one.where, "input", _short(one.reason), one.reason, one.record) for one in found.unusable]
    usable = []
    for item in found.items:
        if way == "augment" and not item.solution.strip():
            lost.append(Lost(item.id, "input", "no reference solution", record=item.model_dump()))
        else:
            usable.append(item)
    same = digest_of({"way": way, "teacher": teacher.model, **asdict(settings)})
    keys = [f"{item.id}#{digest_of([same, item.model_dump()])}" for item in usable]

    def task(item: Item, key: str) -> Task:
        async def work() -> Mapping[str, Any]:
            return await solve(teacher, key, item, read_images(item, folder), WAYS[way], settings)

        return Task(key, work)

    done = await engine.run([task(item, key) for item, key in zip(usable, keys, strict=True)])
    chains = []
    for item, key in zip(usable, keys, strict=True):
        result = done.results.get(key)
        if result is not None and "steps" in result:
            steps = tuple(result["steps"])
            chains.append(
                Chain(id=item.id, question=item.question, images=item.images, steps=steps, answer=item.answer)
            )
        else:
            lost.append(missing(item.id, item.model_dump(), result, done.lost.get(key)))
    source_of = {item.id: item.source for item in usable}
    about = {chain.id: {"way": way, "teacher": teacher.model, "source": source_of[chain.id]} for chain in chains}
    return Made(len(found.items) + len(found.unusable), len(chains), chains, about, lost), done


def missing(where: str, record: Mapping[str, Any], result: Mapping[str, Any] | None, by_server: str | None) -> Lost:
    """Returns why a question gave no chain: the fault of its last try, the server, or the end of the run."""
    if by_server is not None:
        return Lost(where, "server", "no reply", by_server, record)
    if result is None:
        return Lost(where, "unfinished", "the run ended before", record=record)
    last = result["faults"][-1]
    return Lost(where, last["stage"], last["reason"], last["detail"], record, result["faults"])


def digest_of(content: Any) -> str:
    """Returns a digest of what changes results; our version and our prompts are part of it."""
    words = {name: value for name, value in vars(prompts).items() if name.isupper()}
    told = [__version__, words, content]
    return hashlib.blake2b(json.dumps(told, sort_keys=True, default=str).encode(), digest_size=8).hexdigest()


def _short(reason: str) -> str:
    """What is wrong with a record, without what is special to it."""
    if reason.startswith("image:"):
        return "broken image"
    return "id occurred before" if reason.endswith("occurred before") else reason
