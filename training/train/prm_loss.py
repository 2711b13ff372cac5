"""The loss of a process reward model: cross-entropy between its two classes at each labelled step (paper, section 3.3).

    L = - sum over steps of  y log r + (1 - y) log(1 - r),   r = softmax(z_wrong, z_right)_right

A recipe can add two auxiliary losses, for small models and few labels: the same cross-entropy at each token of a step,
where it is known from which token on a wrong step is wrong, and the language modelling loss on right text.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy

from atomthink_plugin.training.train.collate import IGNORED


def class_logits(logits: Tensor, labels: Tensor, classes: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
    """Returns the logits `[labelled, 2]`, wrong then right, in float32, and their labels.

    Args:
        logits: `[rows, positions, outputs]`.
        labels: `[rows, positions]`, probability that a step is right, or `IGNORED`.
        classes: Ids of the bad and the good token; None for a classifier, whose outputs are the two classes.
    """
    labelled = labels != IGNORED
    read = logits[labelled]
    return (read if classes is None else read[:, list(classes)]).float(), labels[labelled]


def step_loss(pairs: Tensor, right: Tensor, weights: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    """Returns the cross-entropy summed over labels.

    It is a sum, so that the caller can divide by the number of labels in all batches of an optimiser step. Means of
    single batches would undo the weights where a batch has labels of one class only.

    Args:
        pairs: `[labelled, 2]`, as `class_logits` returns them.
        right: `[labelled]`, in [0, 1].
        weights: Of wrong and of right steps.
    """
    bad, good = pairs.log_softmax(-1).unbind(-1)
    return -(weights[1] * right * good + weights[0] * (1 - right) * bad).sum()


def language_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the cross-entropy of the tokens `labels` `[rows, positions]`, each predicted from the position before."""
    following = labels[:, 1:]
    labelled = following != IGNORED
    return cross_entropy(logits[:, :-1][labelled].float(), following[labelled], reduction="sum")
