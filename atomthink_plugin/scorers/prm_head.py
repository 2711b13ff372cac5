"""A classifier of tokens read at the separator behind each step.

Source: Qwen2.5-Math-PRM, "The Lessons of Developing Process Reward Models" (arXiv 2501.07301).
"""

from __future__ import annotations

from typing import Final

import torch
from pydantic import PositiveInt

from atomthink_plugin.api import AtomThinkError, Path, QuestionError
from atomthink_plugin.checkpoints import Checkpoint, load_text_prm
from atomthink_plugin.prompting import control_tokens, neutralise, text_encoding, tokenise_pieces
from atomthink_plugin.scorers.batched import BatchedScorer, Reading, single_token
from atomthink_plugin.scorers.steps import last_step

SYSTEM: Final = r"Please reason step by step, and put your final answer within \boxed{}."
"""The system turn of the published model's training data."""

_CLASSES: Final = 2


class HeadPrm(BatchedScorer):
    """Scores a step by the classifier's probability of its second class, "right", at the separator.

    The question's text is asked as it is, options and line breaks kept; images are not read.

    Args:
        checkpoint: The loaded token classifier; its tokenizer has a chat template.
        separator: The token behind every step.
        batch_size: Paths in one batch at most.

    Raises:
        AtomThinkError: The separator is not one token, the head has not two classes, or there is no chat template.
    """

    def __init__(self, checkpoint: Checkpoint, *, separator: str = "<extra_0>", batch_size: int = 8) -> None:
        super().__init__(checkpoint, batch_size)
        self._tokenizer = checkpoint.tokenizer
        self._separator = single_token(self._tokenizer, separator, "prm_separator")
        self._control = control_tokens(self._tokenizer, None)
        classes = checkpoint.model.config.num_labels
        if classes != _CLASSES:
            raise AtomThinkError(f"prm={self.identity!r} has {classes} classes, not wrong and right: use another PRM")
        if self._tokenizer.chat_template is None:
            raise AtomThinkError(f"prm={self.identity!r} has no chat template: add chat_template.jinja to its folder")

    def encode(self, path: Path) -> Reading:
        """Returns the chat up to the last step's separator, where it is read.

        Raises:
            QuestionError: A step's own text is read as a separator.
        """
        last_step(path)
        pieces = tokenise_pieces(self._tokenizer, [self._clean(step.text) for step in path.steps])
        if any(self._separator in piece for piece in pieces):
            raise QuestionError("a step contains the PRM's separator, so its steps cannot be told apart")
        turns = [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": self._clean(path.question.text)},
        ]
        chat = self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        question = text_encoding(self._tokenizer.encode(str(chat), add_special_tokens=False))
        encoding = question.extend([token for piece in pieces for token in (*piece, self._separator)])
        return Reading(encoding, encoding.length - 1, encoding.length - 1)

    def probability(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Returns softmax over the two classes, of "right"."""
        return torch.softmax(logits[0], dim=-1)[1]

    def _clean(self, text: str) -> str:
        return neutralise(text, self._control)


def prm_head(
    prm: str,
    *,
    separator: str = "<extra_0>",
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    batch_size: PositiveInt = 8,
    trust_remote_code: bool = False,
) -> HeadPrm:
    """Loads a token-classification PRM; remote code (Qwen2.5-Math-PRM) runs only if it is trusted.

    Raises:
        AtomThinkError: It cannot be loaded, or read at `separator`.
    """
    checkpoint = load_text_prm(
        prm,
        kind="head",
        revision=revision,
        dtype=dtype,
        device=device,
        trust_remote_code=trust_remote_code,
        argument="prm",
    )
    return HeadPrm(checkpoint, separator=separator, batch_size=batch_size)
