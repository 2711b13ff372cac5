"""A published process reward model on a vLLM server, asked for what its profile reads.

Only routes that read the server's prefix cache are used: one generated token with the log-probabilities of given
tokens, and the class of the whole sequence. All of them get token ids, so that a server reads what a model in this
process would read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from atomthink_plugin.api import AtomThinkError, Path, QuestionError, Step
from atomthink_plugin.image_memo import PerImage
from atomthink_plugin.inference.checkpoint_files import load_config
from atomthink_plugin.inference.preprocessors import load_preprocessor
from atomthink_plugin.inference.trial import STEPS, questions
from atomthink_plugin.runtime.event_loop import run
from atomthink_plugin.scorers.image_placeholder import ImagePlaceholder, image_placeholder
from atomthink_plugin.scorers.prm_profiled import required_profile
from atomthink_plugin.scorers.profile_reading import ProfileReading, profile_reading
from atomthink_plugin.scorers.readouts import outputs, read_out, read_tokens
from atomthink_plugin.scorers.served_prm import ScoreRequest, ServedPrm, prm_servers, served_name
from atomthink_plugin.scorers.served_replies import (
    IDS,
    Classes,
    Continuations,
    Generations,
    logprobs_of,
    one_token,
    share_of_good,
)
from atomthink_plugin.scorers.vllm_command import classified, not_served, vllm_command
from atomthink_plugin.servers.chat_turns import data_url
from atomthink_plugin.servers.openai_client import Server
from atomthink_plugin.servers.pictures import NAME, picture_name
from atomthink_plugin.servers.replies import ServerReply

if TYPE_CHECKING:
    from PIL.Image import Image


class ServedProfiledPrm(ServedPrm):
    """A served PRM of a profile.

    Args:
        identity: As in `ServedPrm`.
        model: As in `ServedPrm`.
        servers: As in `ServedPrm`, as is the next argument.
        wait: Seconds to wait for a server.
        reading: How its input is written and read.
        start: The command that serves it with vLLM.
    """

    def __init__(
        self,
        identity: str,
        model: str,
        servers: Sequence[Server],
        wait: float,
        reading: ProfileReading,
        start: str,
    ) -> None:
        super().__init__(identity, model, servers, wait)
        self.start = start
        self.profile = reading.profile
        self._layout = reading.layout
        self._ids = [reading.ids[text] for text in read_tokens(reading.profile)]

    def _score(self, given: Mapping[int, float]) -> float:
        """Returns the score that log-probabilities over the whole vocabulary give, by token id."""
        good, *bad = logprobs_of(given, self._ids)
        return share_of_good(good, bad[0]) if bad else math.exp(good)


class ServedTextProfile(ServedProfiledPrm):
    """A language model that reads text: one token is generated at the reading position."""

    def route(self, server: Server) -> str:
        """Returns the completions route: it takes token ids."""
        return "/completions"

    def request(self, path: Path) -> ScoreRequest:
        """Returns a request for one token."""
        prompt = list(self._layout.encode(path).ids)
        asked = {**one_token(self._ids), "logprobs": len(self._ids), **IDS}
        return ScoreRequest({"prompt": prompt, **asked}, self._read)

    def _read(self, text: str) -> tuple[float, ServerReply]:
        reply = Continuations.model_validate_json(text)
        return self._score(reply.logprobs()), reply


class ServedImageProfile(ServedProfiledPrm):
    """A model that reads images: as `ServedTextProfile`, by a route that takes token ids and images.

    The server prepares the images itself. Its reply holds the prompt as it was read, with the tokens of the images, so
    that a server with another image size or another chat markup is refused.

    Args:
        identity: As in `ServedPrm`.
        model: As in `ServedPrm`.
        servers: As in `ServedPrm`, as is the next argument.
        wait: Seconds to wait for a server.
        reading: How its input is written and read.
        start: The command that serves it with vLLM.
        placeholder: What stands for an image.
    """

    def __init__(
        self,
        identity: str,
        model: str,
        servers: Sequence[Server],
        wait: float,
        reading: ProfileReading,
        start: str,
        placeholder: ImagePlaceholder,
    ) -> None:
        super().__init__(identity, model, servers, wait, reading, start)
        self._placeholder = placeholder
        self._part = PerImage(_image_part)

    def route(self, server: Server) -> str:
        """Returns the route for token ids and images, which is no part of OpenAI's protocol."""
        return root(server) + "/inference/v1/generate"

    def tried(self) -> Path:
        """Returns a path with an image."""
        question, _ = questions(images=True)
        return Path(question).extend(Step(STEPS[0]))

    def request(self, path: Path) -> ScoreRequest:
        """Returns a request for one token after text and images."""
        images = self._layout.images(path)
        # The reply lists as many tokens as are requested, the generated one first: one more makes room for all.
        listed = [*self._ids, self._ids[-1]]
        read = self._layout.encode(path).ids
        body = {
            "token_ids": self._placeholder.unexpanded(read, len(images)),
            "content_parts": [self._part(image) for image in images] or None,
            "sampling_params": {**one_token(listed), "logprobs": len(listed)},
            "return_token_ids": True,
        }
        return ScoreRequest(body, partial(self._read, read))

    def _read(self, read: tuple[int, ...], text: str) -> tuple[float, ServerReply]:
        reply = Generations.model_validate_json(text)
        if tuple(reply.prompt_token_ids) != read:
            raise QuestionError(
                f"the server read {len(reply.prompt_token_ids)} tokens that are not the {len(read)} of the PRM's "
                "layout, images included: its image sizes or its model are others than those of the profile"
            )
        return self._score(reply.logprobs()), reply


class ServedClassProfile(ServedProfiledPrm):
    """A classifier of text: the outputs at the last token of the input.

    Its server does not tell what came from its cache.
    """

    def route(self, server: Server) -> str:
        """Returns the classification route, which is no part of OpenAI's protocol."""
        return root(server) + "/classify"

    def request(self, path: Path) -> ScoreRequest:
        """Returns a request for the outputs before any softmax or sigmoid, which the server's config would choose."""
        return ScoreRequest({"input": list(self._layout.encode(path).ids), "use_activation": False}, self._read)

    def _read(self, text: str) -> tuple[float, ServerReply]:
        reply = Classes.model_validate_json(text)
        given, wanted = reply.outputs(), outputs(self.profile)
        if len(given) != wanted:
            raise QuestionError(f"the served PRM gave {len(given)} outputs, and its profile says {wanted}")
        return float(read_out(self.profile, {})(torch.tensor(given))), reply


def _image_part(image: Image) -> dict[str, str]:
    url = data_url(image)
    return {"type": "image_url", "url": url, NAME: picture_name(url)}


def root(server: Server) -> str:
    """Returns the address of a server without the part that OpenAI's protocol adds."""
    return server.url.rstrip("/").removesuffix("/v1")


def served_prm_profiled(
    prm: str,
    *,
    profile: str | None = None,
    base_url: str,
    revision: str | None = None,
    connections: PositiveInt = 256,
    timeout: PositiveFloat = 300.0,
    max_retries: NonNegativeInt = 5,
    wait: NonNegativeFloat = 600.0,
    trust_remote_code: bool = False,
) -> ServedProfiledPrm:
    """Uses a published PRM on a vLLM server, read as its profile says.

    `atomthink prm profiles NAME` prints the command that serves it.

    Args:
        prm: A local folder, or the id of a repository on the model hub, with the PRM's config and tokenizer. It is also
            the model's name on the servers, unless they serve a single model.
        profile: Name of a profile (`atomthink prm profiles` lists them), or a YAML file with a profile of your own. By
            default the one that has the PRM's hub id.
        base_url: Address of the server, with `/v1`. Addresses of several servers of one PRM are separated by `;`. When
            a run is resumed, the PRM at another address counts as the same only if its server reports its checkpoint,
            as vLLM does.
        revision: Branch, tag or commit of the repository on the hub.
        connections: Maximum requests in flight at each server.
        timeout: Seconds that one attempt of a request may take.
        max_retries: Further attempts after a rate limit (HTTP 429), a server error or a lost connection. The pause
            before each grows to at most 8 s, unless the server asks for another.
        wait: Seconds to wait for a server to come back when no other server is up, before the question fails.
        trust_remote_code: Whether to run Python code of the tokenizer that comes with the checkpoint.

    Raises:
        AtomThinkError: The PRM has no profile or cannot be served, its tokenizer has other ids than the profile, or a
            server cannot be used.
    """
    found, content = required_profile(prm, profile)
    if (reason := not_served(content)) is not None:
        raise AtomThinkError(
            f"prm={prm!r} cannot be served with vLLM as prm_profile={found.name}: {reason}. Leave out prm_base_url= to "
            "load it in this process"
        )
    images = content.images.use != "none"
    words = load_preprocessor(
        prm, images=images, revision=revision, trust_remote_code=trust_remote_code, argument="prm"
    )
    reading = profile_reading(words, found.name, content)
    servers = prm_servers(base_url, connections, timeout, max_retries)
    identity = f"served:{words.identity} read as {found.name} {found.digest}"
    common = identity, served_name(prm, servers), servers, wait, reading, vllm_command(content, prm)
    scorer: ServedProfiledPrm
    if reading.encoder is not None:
        config = load_config(prm, revision=revision, argument="prm")
        scorer = ServedImageProfile(*common, image_placeholder(reading.encoder, config))
    elif classified(content):
        scorer = ServedClassProfile(*common)
    else:
        scorer = ServedTextProfile(*common)
    run(scorer.check())
    return scorer
