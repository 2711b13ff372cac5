"""The formats of candidates that can be read, by the names of `--from`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from atomthink_plugin.rollouts.readers import (
    dreamprm,
    evpv,
    gsm8k,
    inspect_log,
    internvl,
    lmms_eval_samples,
    mm_prm,
    rlhflow,
    sal,
    ursa,
    vlmevalkit,
    vlprm,
    vrprm,
)
from atomthink_plugin.rollouts.readers.reader import RolloutReader

ROLLOUT_FORMATS: Final[Mapping[str, RolloutReader]] = {
    "lmms_eval": lmms_eval_samples.READER,
    "vlmevalkit": vlmevalkit.READER,
    "inspect": inspect_log.READER,
    "vrprm": vrprm.READER,
    "evpv": evpv.READER,
    "vlprm": vlprm.READER,
    "mm_prm": mm_prm.READER,
    "internvl": internvl.READER,
    "ursa": ursa.READER,
    "dreamprm": dreamprm.READER,
    "rlhflow": rlhflow.READER,
    "sal": sal.READER,
    "gsm8k": gsm8k.READER,
}
"""The readers of records. A record has the first format whose fields it has."""
