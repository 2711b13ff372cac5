"""The formats of candidates that can be read, by the names of `--from`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from atomthink_plugin.rollouts.readers import gsm8k, vrprm
from atomthink_plugin.rollouts.readers.reader import RolloutReader

ROLLOUT_FORMATS: Final[Mapping[str, RolloutReader]] = {
    "gsm8k": gsm8k.READER,
    "vrprm": vrprm.ROLLOUTS,
    "vrprm_scores": vrprm.SCORES,
}
"""The readers of records. A record has the first format whose fields it has."""
