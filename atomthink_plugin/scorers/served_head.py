"""A served token classifier: the class of the sequence that ends at the last step's separator."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from atomthink_plugin.api import AtomThinkError, Path, QuestionError
from atomthink_plugin.inference.checkpoint_files import load_config
from atomthink_plugin.inference.preprocessors import load_preprocessor
from atomthink_plugin.runtime.event_loop import run
from atomthink_plugin.scorers.batched import single_token
from atomthink_plugin.scorers.detect import prm_settings
from atomthink_plugin.scorers.prm_head import Conversation, separator_of
from atomthink_plugin.scorers.served_prm import ScoreRequest, ServedPrm, prm_servers, served_name
from atomthink_plugin.scorers.served_replies import Classes
from atomthink_plugin.servers.openai_client import Server
from atomthink_plugin.servers.replies import ServerReply


class ServedHeadPrm(ServedPrm):
    """A text-only classifier: the class of the sequence that ends at the last step's separator.

    Its server does not tell what came from its cache.

    Args:
        identity: As in `ServedPrm`.
        model: As in `ServedPrm`.
        servers: As in `ServedPrm`, as is the next argument.
        wait: Seconds to wait for a server.
        layout: Where its input has what.
    """

    start = (
        'vllm serve PRM --runner pooling --pooler-config \'{"task": "classify"}\'` or, for Qwen2.5-Math-PRM and with '
        'this package installed beside vLLM, `--runner pooling --hf-overrides \'{"architectures": '
        '["LastStepRewardModel"]}\''
    )

    def __init__(self, identity: str, model: str, servers: Sequence[Server], wait: float, layout: Conversation) -> None:
        super().__init__(identity, model, servers, wait)
        self._layout = layout

    def route(self, server: Server) -> str:
        """Returns the classification route, which is no part of OpenAI's protocol."""
        return server.url.rstrip("/").removesuffix("/v1") + "/classify"

    def request(self, path: Path) -> ScoreRequest:
        """Returns a request for the class of the path."""
        return ScoreRequest({"input": list(self._layout.encode(path).ids)}, self._read)

    def _read(self, text: str) -> tuple[float, ServerReply]:
        """Returns the probability of the second class, "right"."""
        read = Classes.model_validate_json(text)
        probabilities = read.outputs()
        if len(probabilities) != 2:
            raise QuestionError(f"the served PRM gave {len(probabilities)} classes, not wrong and right: name another")
        return probabilities[1], read


def served_prm_head(
    prm: str,
    *,
    base_url: str,
    separator: str | None = None,
    revision: str | None = None,
    connections: PositiveInt = 256,
    timeout: PositiveFloat = 300.0,
    max_retries: NonNegativeInt = 5,
    wait: NonNegativeFloat = 600.0,
    trust_remote_code: bool = False,
) -> ServedHeadPrm:
    """Uses a token classifier of text on a server, such as Qwen2.5-Math-PRM.

    Args:
        prm: A local folder, or the id of a repository on the model hub, with the PRM's config and tokenizer. It is also
            the model's name on the servers, unless they serve a single model.
        base_url: Address of the server, with `/v1`. Addresses of several servers of one PRM are separated by `;`. When
            a run is resumed, the PRM at another address counts as the same only if its server reports its checkpoint,
            as vLLM does.
        separator: Token after each step, where the PRM is read. By default that of its config.json, else
            Qwen2.5-Math-PRM's `<extra_0>`.
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
    config = load_config(prm, revision=revision, argument="prm")
    if "vision_config" in config:
        raise AtomThinkError(
            f"prm={prm!r} reads images, and a served classifier is asked with text alone: leave out prm_base_url= to "
            "load it in this process"
        )
    words = load_preprocessor(prm, images=False, revision=revision, trust_remote_code=trust_remote_code, argument="prm")
    separator_id = single_token(words.tokenizer, separator_of(prm_settings(config, prm), separator), "prm_separator")
    if words.tokenizer.chat_template is None:
        raise AtomThinkError(f"prm={prm!r} has no chat template: add chat_template.jinja to its folder")
    servers = prm_servers(base_url, connections, timeout, max_retries)
    layout = Conversation(words.tokenizer, separator_id)
    scorer = ServedHeadPrm(f"served:{words.identity}", served_name(prm, servers), servers, wait, layout)
    run(scorer.check())
    return scorer
