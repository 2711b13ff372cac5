"""Vectors of texts from a policy's own model."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from atomthink_plugin.inference.checkpoints import Checkpoint
from atomthink_plugin.inference.encoding import Encoding, collate, group
from atomthink_plugin.inference.forward_passes import forward_passes


def mean_states(checkpoint: Checkpoint, rows: Sequence[Encoding]) -> list[list[float]]:
    """Returns for each row the mean of the model's last hidden states over its tokens.

    Args:
        checkpoint: The model.
        rows: Texts without images, each of at least one token.
    """
    # Logits of all positions would need as much memory as the vocabulary is large.
    takes = inspect.signature(checkpoint.model.forward).parameters
    options = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
    vectors: dict[int, list[float]] = {}
    with forward_passes(checkpoint):
        for indices in group(rows):
            inputs = collate([rows[index] for index in indices], checkpoint, "right")
            output = checkpoint.model(**inputs, output_hidden_states=True, use_cache=False, **options)
            mask = inputs["attention_mask"][..., None]
            means = (output.hidden_states[-1].float() * mask).sum(dim=1) / mask.sum(dim=1)
            vectors.update(zip(indices, means.tolist(), strict=True))
    return [vectors[index] for index in range(len(rows))]
