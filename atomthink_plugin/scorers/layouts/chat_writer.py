"""Turns of a chat as text: by the checkpoint's own chat template, or by the markup of a profile."""

from __future__ import annotations

from typing import Any, Final

from transformers import PreTrainedTokenizerBase, ProcessorMixin

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.inference.encoding import turn_of
from atomthink_plugin.scorers.layouts.arrangement import Arrangement, LayoutTurn, Parts
from atomthink_plugin.scorers.prm_profile import Chat, ChatMarkup

_HERE: Final = "\ue0a7"
"""Stands for the reading position while a template writes a turn that ends there. It is for private use in Unicode."""

_TEXT: Final = "{text}"


class ChatWriter:
    """Writes arrangements as one text each, with the processor's placeholder for each image.

    Args:
        chat: How turns become text.
        tokenizer: The PRM's.
        processor: Its processor; None for a PRM that reads text alone.
        placeholder: The processor's text for an image; empty without a processor.
    """

    def __init__(
        self, chat: Chat, tokenizer: PreTrainedTokenizerBase, processor: ProcessorMixin | None, placeholder: str
    ) -> None:
        self._chat = chat
        self._template: Any = tokenizer if processor is None else processor
        self._flat = processor is None  # templates of text-only models expect the content of a turn as a string
        self._placeholder = placeholder

    def write(self, arrangement: Arrangement) -> str:
        """Returns the text up to the reading position.

        Raises:
            AtomThinkError: The checkpoint has no chat template, or its template cannot write these turns.
        """
        begun = self.flat(arrangement.begun)
        if arrangement.role == "none":
            return begun
        if isinstance(self._chat, ChatMarkup):
            return self._marked_up(self._chat, arrangement) + begun
        if arrangement.role == "assistant":
            return self._rendered([self._turn(turn) for turn in arrangement.turns], reply=True) + begun
        open_turn = LayoutTurn("user", (*arrangement.begun, _HERE))
        return self._rendered([self._turn(turn) for turn in (*arrangement.turns, open_turn)]).partition(_HERE)[0]

    def flat(self, parts: Parts) -> str:
        """Returns parts as one text."""
        return "".join(self._placeholder if part is None else part for part in parts)

    def _marked_up(self, chat: ChatMarkup, arrangement: Arrangement) -> str:
        forms = {"system": chat.system, "user": chat.user, "assistant": chat.assistant}
        text = "".join(forms[turn.role].replace(_TEXT, self.flat(turn.parts)) for turn in arrangement.turns)
        return text + (chat.header if arrangement.role == "assistant" else chat.user.partition(_TEXT)[0])

    def _turn(self, turn: LayoutTurn) -> dict[str, Any]:
        if self._flat:
            return {"role": turn.role, "content": self.flat(turn.parts)}
        return turn_of(turn.role, turn.parts)

    def _rendered(self, turns: list[dict[str, Any]], reply: bool = False) -> str:
        try:
            text = self._template.apply_chat_template(turns, tokenize=False, add_generation_prompt=reply)
        except Exception as error:  # a template may raise anything
            raise AtomThinkError(
                f"the PRM's chat template cannot write the profile's turns ({type(error).__name__}: {error}): give the "
                "profile its own markup in `chat`, or add chat_template.jinja to the checkpoint's folder"
            ) from error
        return str(text)
