"""Labels behaviours with a name and an ability: by keywords, or by a language model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.redaction import redact
from atomthink_plugin.runtime.progress import track
from atomthink_plugin.tasks.capability.behaviours import Behaviour, vectorizer
from atomthink_plugin.tasks.capability.taxonomy import Taxonomy

NONE: Final = "none"
"""The language model's reply if no ability fits."""


@dataclass(frozen=True, slots=True)
class AbilityLabel:
    """The name of a behaviour and the ability it needs, None if no ability of the taxonomy fits."""

    name: str
    ability: str | None


class Labeller(Protocol):
    """Assigns abilities of a taxonomy to behaviours."""

    def label(self, behaviours: Sequence[Behaviour], taxonomy: Taxonomy) -> list[AbilityLabel]:
        """Returns one label for each behaviour.

        Raises:
            AtomThinkError: The labeller fails.
        """
        ...


class KeywordLabeller:
    """Assigns the ability with the most keywords in the texts; the most similar description decides ties."""

    def label(self, behaviours: Sequence[Behaviour], taxonomy: Taxonomy) -> list[AbilityLabel]:
        """Returns the labels. A behaviour without any keyword gets no ability."""
        descriptions = [" ".join((a.name, a.description, *a.keywords)).casefold() for a in taxonomy.abilities]
        texts = [" ".join(behaviour.examples) for behaviour in behaviours]
        tfidf = vectorizer(stop_words="english").fit([*descriptions, *texts])
        similarities = (tfidf.transform(texts) @ tfidf.transform(descriptions).T).toarray()
        return [self._label(b, taxonomy, row) for b, row in zip(behaviours, similarities.tolist(), strict=True)]

    def _label(self, behaviour: Behaviour, taxonomy: Taxonomy, similarities: Sequence[float]) -> AbilityLabel:
        ranks = [
            (_keywords_per_text(behaviour.examples, ability.keywords), similarity)
            for ability, similarity in zip(taxonomy.abilities, similarities, strict=True)
        ]
        best = max(range(len(ranks)), key=ranks.__getitem__)
        return AbilityLabel(behaviour.name, taxonomy.abilities[best].name if ranks[best][0] else None)


def _keywords_per_text(texts: Sequence[str], keywords: Sequence[str]) -> float:
    """Returns the mean number of keywords in a text. A phrase counts once for each of its words."""
    counts = [sum(len(word.split()) for word in keywords if _contains(text, word.casefold())) for text in texts]
    return sum(counts) / len(counts)


def _contains(text: str, phrase: str) -> bool:
    """Returns whether a text contains a phrase as whole words. Words may have an ending such as `-ing`."""
    ending = r"(?:s|es|d|ed|ing)?(?!\w)" if phrase[-1].isalpha() and len(phrase) > 1 else r"(?!\w)"
    return re.search(rf"(?<!\w){re.escape(phrase)}{ending}", text) is not None


class _LabelReply(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    ability: str


class LanguageModelLabeller:
    """Assigns abilities by a language model on an OpenAI-compatible server. The key is `OPENAI_API_KEY`.

    Args:
        model: The name of the model.
        base_url: URL of the server, None for OpenAI.
    """

    ATTEMPTS: Final = 3

    def __init__(self, model: str, base_url: str | None = None) -> None:
        import openai

        self._model = model
        try:
            self._client = openai.OpenAI(base_url=base_url, max_retries=5)
        except openai.OpenAIError:
            raise AtomThinkError(
                "`--labeller llm` needs a key: set OPENAI_API_KEY. Your own server may accept any value"
            ) from None

    def label(self, behaviours: Sequence[Behaviour], taxonomy: Taxonomy) -> list[AbilityLabel]:
        """Returns the labels. Each behaviour is one request, which is repeated if the reply cannot be used."""
        return [self._label(behaviour, taxonomy) for behaviour in track(behaviours, "behaviours")]

    def _label(self, behaviour: Behaviour, taxonomy: Taxonomy) -> AbilityLabel:
        messages = [{"role": "user", "content": _instruction(behaviour, taxonomy)}]
        fault = ""
        for _ in range(self.ATTEMPTS):
            written = self._ask(messages, taxonomy)
            try:
                reply = _LabelReply.model_validate_json(written)
            except ValidationError as error:
                fault = error.errors()[0]["msg"]
            else:
                if reply.ability in {NONE, *taxonomy.by_name} and reply.name.strip():
                    return AbilityLabel(reply.name.strip(), None if reply.ability == NONE else reply.ability)
                fault = f"{reply.ability!r} is not in the list of abilities, or the name is empty"
            messages += [
                {"role": "assistant", "content": written},
                {"role": "user", "content": f"That cannot be used ({fault}). Reply with the JSON object only."},
            ]
        raise AtomThinkError(
            f"`--labeller-model {self._model}` gave no usable label for steps such as {behaviour.examples[0]!r}: "
            f"{fault}. Use another model, or `--labeller words`"
        )

    def _ask(self, messages: Sequence[Any], taxonomy: Taxonomy) -> str:
        import openai

        try:
            reply = self._client.chat.completions.create(
                model=self._model, messages=list(messages), temperature=0, response_format=_schema(taxonomy)
            )
        except (openai.OpenAIError, ValueError) as error:
            raise AtomThinkError(f"`--labeller-model {self._model}` at {self._client.base_url}: {error}") from None
        if (
            not isinstance(reply, openai.types.chat.ChatCompletion) or not reply.choices
        ):  # a server may reply with a web page or an error
            return ""
        message = reply.choices[0].message
        return redact((message.content if message is not None else None) or "")  # a server may leave out either


def _instruction(behaviour: Behaviour, taxonomy: Taxonomy) -> str:
    abilities = "\n".join(f"- {ability.name}: {ability.description}" for ability in taxonomy.abilities)
    examples = "\n".join(f"- {text}" for text in behaviour.examples)
    return (
        "These reasoning steps of solutions were put into one cluster; # stands for a number:\n"
        f"{examples}\n\nAbilities:\n{abilities}\n- {NONE}: none of these\n\n"
        'Which one ability does such a step take? Reply with a JSON object {"name": ..., "ability": ...}: a name of '
        "two to four words for what the steps do, and the ability as it is written in the list."
    )


def _schema(taxonomy: Taxonomy) -> Any:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "ability": {"enum": [*taxonomy.by_name, NONE]}},
        "required": ["name", "ability"],
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "label", "strict": True, "schema": schema}}
