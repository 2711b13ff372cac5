"""Asks policies about paths, with the prompt and the sampling that a search tree makes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from atomthink_plugin.api import Format, Path, Policy, Prompt, Proposal, Sampling


def prompt_at(form: Format, path: Path) -> Prompt:
    """What a tree asks for after `path`."""
    return replace(form.render(path), session=path.question.id, depth=path.depth)


def sampling_at(path: Path, sampling: Sampling) -> Sampling:
    """The sampling of the samples that extend `path`."""
    return replace(sampling, key=f"{path.question.id}\0{path.key}")


async def propose(policy: Policy, form: Format, path: Path, n: int, sampling: Sampling) -> Proposal:
    """Samples `n` extensions of `path`."""
    return await policy.propose(prompt_at(form, path), n, sampling_at(path, sampling))


def ask(policy: Policy, form: Format, paths: Sequence[Path], sampling: Sampling, n: int = 1) -> list[Proposal]:
    """Samples extensions of all paths at the same time, as a run does."""

    async def together() -> list[Proposal]:
        return await asyncio.gather(*(propose(policy, form, path, n, sampling) for path in paths))

    return asyncio.run(together())


def ask_each(policy: Policy, form: Format, paths: Sequence[Path], sampling: Sampling, n: int = 1) -> list[Any]:
    """As `ask`, with the error of a path that fails in its place."""

    async def together() -> list[Any]:
        proposals = (propose(policy, form, path, n, sampling) for path in paths)
        return await asyncio.gather(*proposals, return_exceptions=True)

    return asyncio.run(together())
