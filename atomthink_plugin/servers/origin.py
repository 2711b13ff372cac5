"""The checkpoint of a model on a server. It is part of the key of a journal, so that a server may move."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from atomthink_plugin.redaction import redact
from atomthink_plugin.servers.openai_client import Server


async def origin(servers: Sequence[Server], model: str) -> str:
    """Returns what tells the model from others of the same name.

    These are the checkpoints that the servers load, as vLLM reports them. Where a server reports none, they are the
    addresses of all servers: there could be another model of that name at another address.

    Args:
        servers: The servers of one model.
        model: What they call it.
    """
    found = await asyncio.gather(*(server.checkpoint(model) for server in servers))
    known = [checkpoint for checkpoint in found if checkpoint is not None]
    names = known if len(known) == len(servers) else [server.url for server in servers]
    return redact(", ".join(sorted(set(names))))
