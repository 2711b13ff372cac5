"""`atomthink prm mine`: labelled chains that a PRM misjudges, for its next round of training."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from atomthink_plugin.config import scorer_plan
from atomthink_plugin.training.evaluate.evaluating import score_file
from atomthink_plugin.training.evaluate.reading import read_set
from atomthink_plugin.training.evaluate.scored import Scored
from atomthink_plugin.training.evaluate.scoring import score_chains
from atomthink_plugin.training.records import Reject, relocated, sibling_file, write_records, write_rejects

log = logging.getLogger(__name__)

MISJUDGED: Final = 0.5
"""A step is misjudged if its score is further than this from its label."""


def mine(chains: Path, out: Path, typed: Mapping[str, Any], scores: Path | None = None) -> int:
    """Writes the chains with a step that a PRM misjudges, the worst first, and returns how many.

    Args:
        chains: Labelled chains.
        out: The file; images stay where they are. What cannot be judged goes to OUT.rejects.jsonl beside it.
        typed: `prm`, `scorer` and the scorer's arguments, as a run takes them.
        scores: Where scores are kept, to go on from in a later run.

    Raises:
        AtomThinkError: The chains or the PRM cannot be used.
    """
    plan = scorer_plan(typed)
    data = read_set(str(chains), "chains")
    scorer = plan.make()
    with score_file(scores, plan, scorer) as file:
        found = score_chains(data.chains, scorer, file, str(chains))
    hard = [(fault(one), one.item.chain) for one in found.chains if fault(one) > MISJUDGED]
    hard.sort(key=lambda pair: -pair[0])
    failed = [Reject(f"{chains.name}, id {name!r}", reason, None) for name, reason in found.failed.items()]
    write_rejects(sibling_file(out, "rejects.jsonl"), [*data.rejects, *failed])
    aside = len(data.rejects) + len(failed)
    log.info("%d of %d chains are misjudged, %d set aside", len(hard), len(found.chains), aside)
    return write_records(out, (relocated(chain, chains.parent, out) for _, chain in hard))


def fault(scored: Scored) -> float:
    """Returns how far the worst judgement is from its label, in [0, 1]; 0 where no step has a label."""
    labels = scored.item.chain.labels or ()
    pairs = zip(scored.scores, labels, strict=True)
    return max((abs(score - label) for score, label in pairs if label is not None), default=0.0)
