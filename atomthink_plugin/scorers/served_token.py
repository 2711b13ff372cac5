"""A served language model that is read at a step tag: one token is generated after it, for two log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from atomthink_plugin.api import AtomThinkError, Format, Path
from atomthink_plugin.formats.named import format_named
from atomthink_plugin.inference.checkpoint_files import load_config
from atomthink_plugin.inference.encoding import ChatText
from atomthink_plugin.inference.preprocessors import load_preprocessor
from atomthink_plugin.runtime.event_loop import run
from atomthink_plugin.scorers.batched import single_token
from atomthink_plugin.scorers.chat_layout import prompt_and_reply
from atomthink_plugin.scorers.detect import PUBLISHED, prm_settings
from atomthink_plugin.scorers.prm_token import TextLayout, markers
from atomthink_plugin.scorers.served_prm import ScoreRequest, ServedPrm, prm_servers, served_name
from atomthink_plugin.scorers.served_replies import (
    IDS,
    Continuations,
    ContinuedTurns,
    logprobs_of,
    one_token,
    share_of_good,
)
from atomthink_plugin.servers.chat_turns import ChatTurns
from atomthink_plugin.servers.openai_client import Server
from atomthink_plugin.servers.replies import ServerReply


class ServedTokenPrm(ServedPrm):
    """A text-only language model: one token is generated after the last tag, for its two log-probabilities.

    Args:
        identity: As in `ServedPrm`.
        model: As in `ServedPrm`.
        servers: As in `ServedPrm`, as is the next argument.
        wait: Seconds to wait for a server.
        layout: Where its input has what.
        good_id: Id of the token for a right step.
        bad_id: Id of the token for a wrong one.
    """

    start = "vllm serve PRM --enable-prompt-tokens-details"

    def __init__(
        self,
        identity: str,
        model: str,
        servers: Sequence[Server],
        wait: float,
        layout: TextLayout,
        good_id: int,
        bad_id: int,
    ) -> None:
        super().__init__(identity, model, servers, wait)
        self._layout = layout
        self._ids = [good_id, bad_id]

    def route(self, server: Server) -> str:
        """Returns the completions route: it takes token ids."""
        return "/completions"

    def request(self, path: Path) -> ScoreRequest:
        """Returns a request for one token after the last tag."""
        prompt = list(self._layout.encode(path).ids)
        return ScoreRequest({"prompt": prompt, "logprobs": 2, **IDS, **one_token(self._ids)}, self._read)

    def _read(self, text: str) -> tuple[float, ServerReply]:
        """Returns the good token's probability against the bad one's."""
        reply = Continuations.model_validate_json(text)
        return share_of_good(*logprobs_of(reply.logprobs(), self._ids)), reply


class ServedChatPrm(ServedPrm):
    """As `ServedTokenPrm`, for one that reads images and was trained in a prompt format of ours.

    Args:
        identity: As in `ServedPrm`.
        model: As in `ServedPrm`.
        servers: As in `ServedPrm`, as is the next argument.
        wait: Seconds to wait for a server.
        text: Splits the reply into steps.
        format: The prompt format it was trained with.
        tag: Written after every step.
        good_id: Id of the token for a right step.
        bad_id: Id of the token for a wrong one.
    """

    start = "vllm serve PRM --enable-prompt-tokens-details"

    def __init__(
        self,
        identity: str,
        model: str,
        servers: Sequence[Server],
        wait: float,
        text: ChatText,
        format: Format,
        tag: str,
        good_id: int,
        bad_id: int,
    ) -> None:
        super().__init__(identity, model, servers, wait)
        self._text = text
        self._turns = ChatTurns()
        self._format = format
        self._tag = tag
        self._ids = [good_id, bad_id]

    def route(self, server: Server) -> str:
        """Returns the chat route: it takes images."""
        return "/chat/completions"

    def request(self, path: Path) -> ScoreRequest:
        """Returns a request that continues the reply by one token."""
        prompt, pieces = prompt_and_reply(self._format, path)
        texts = zip(self._text.texts([piece.text for piece in pieces]), pieces, strict=True)
        reply = "".join(text + self._tag if piece.ends else text for text, piece in texts)
        body = {
            "messages": [*self._turns(prompt.messages), {"role": "assistant", "content": reply}],
            "continue_final_message": True,
            "add_generation_prompt": False,
            "logprobs": True,
            "top_logprobs": 2,
            **IDS,
            **one_token(self._ids),
        }
        return ScoreRequest(body, self._read)

    def _read(self, text: str) -> tuple[float, ServerReply]:
        """Returns the good token's probability against the bad one's."""
        reply = ContinuedTurns.model_validate_json(text)
        return share_of_good(*logprobs_of(reply.logprobs(), self._ids)), reply


def served_prm_token(
    prm: str,
    *,
    base_url: str,
    format: str | None = None,
    tag: str | None = None,
    good: str | None = None,
    bad: str | None = None,
    revision: str | None = None,
    connections: PositiveInt = 256,
    timeout: PositiveFloat = 300.0,
    max_retries: NonNegativeInt = 5,
    wait: NonNegativeFloat = 600.0,
    trust_remote_code: bool = False,
) -> ServedPrm:
    """Uses a language model on a server that is read at a tag after each step.

    It needs vLLM, which reads its prefix cache for these requests.

    Args:
        prm: A local folder, or the id of a repository on the model hub, with the PRM's config and tokenizer. It is also
            the model's name on the servers, unless they serve a single model.
        base_url: Address of the server, with `/v1`. Addresses of several servers of one PRM are separated by `;`. When
            a run is resumed, the PRM at another address counts as the same only if its server reports its checkpoint,
            as vLLM does.
        format: Prompt format that a PRM with images was trained with: `continue`, `atomic`, `stages` or a plugin's. By
            default that of its config.json.
        tag: Text after each step, where the PRM is read; a single token. By default that of its config.json, else
            AtomThinkPRM's.
        good: Token that says that the step is right. By default that of its config.json, else AtomThinkPRM's ` +`.
        bad: Token that says that the step is wrong. By default that of its config.json, else AtomThinkPRM's ` -`.
        revision: Branch, tag or commit of the repository on the hub.
        connections: Maximum requests in flight at each server.
        timeout: Seconds that one attempt of a request may take.
        max_retries: Further attempts after a rate limit (HTTP 429), a server error or a lost connection. The pause
            before each grows to at most 8 s, unless the server asks for another.
        wait: Seconds to wait for a server to come back when no other server is up, before the question fails.
        trust_remote_code: Whether to run Python code of the tokenizer that comes with the checkpoint.

    Raises:
        AtomThinkError: The PRM's folder or a server cannot be used.
    """
    section = prm_settings(load_config(prm, revision=revision, argument="prm"), prm)
    given = {"format": format, "tag": tag, "good": good, "bad": bad}
    settings = (section or PUBLISHED).model_copy(update={name: one for name, one in given.items() if one is not None})
    chat = (section is not None and section.images) or format is not None
    tag, good, bad = markers(prm, settings)
    words = load_preprocessor(prm, images=chat, revision=revision, trust_remote_code=trust_remote_code, argument="prm")
    tag_id, good_id, bad_id = (
        single_token(words.tokenizer, text, argument)
        for text, argument in ((tag, "prm_tag"), (good, "prm_good"), (bad, "prm_bad"))
    )
    servers = prm_servers(base_url, connections, timeout, max_retries)
    common = f"served:{words.identity}", served_name(prm, servers), servers, wait
    scorer: ServedPrm
    if words.processor is not None:
        text = ChatText(words.processor, words.tokenizer)
        if not text.continues():
            raise AtomThinkError(
                f"prm={prm!r}: its chat template writes the header of a reply differently when the reply is continued, "
                "so a server would give other scores: leave out prm_base_url= to load it in this process"
            )
        scorer = ServedChatPrm(*common, text, format_named(settings.format), tag, good_id, bad_id)
    else:
        scorer = ServedTokenPrm(*common, TextLayout(words.tokenizer, tag, tag_id), good_id, bad_id)
    run(scorer.check())
    return scorer
