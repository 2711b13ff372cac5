"""The formats that labelled steps are published in, one file each, and which of them a record is in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from atomthink_plugin.training.evaluate.labelled import Reader
from atomthink_plugin.training.evaluate.readers.bigbench_mistake import BIGBENCH_MISTAKE
from atomthink_plugin.training.evaluate.readers.chains import CHAINS
from atomthink_plugin.training.evaluate.readers.prmbench import PRMBENCH
from atomthink_plugin.training.evaluate.readers.processbench import PROCESSBENCH
from atomthink_plugin.training.evaluate.readers.visualprocessbench import VISUALPROCESSBENCH

READERS: Final[Mapping[str, Reader]] = {
    "chains": CHAINS,
    "processbench": PROCESSBENCH,
    "visualprocessbench": VISUALPROCESSBENCH,
    "prmbench": PRMBENCH,
    "bigbench_mistake": BIGBENCH_MISTAKE,
}


def detected(record: Mapping[str, Any]) -> str | None:
    """Returns the name of the format that a record's fields are those of, None if there is no such format."""
    return next((name for name, reader in READERS.items() if reader.fields <= record.keys()), None)
