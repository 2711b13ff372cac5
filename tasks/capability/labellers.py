"""Behaviours get a name and an ability: by their words, or by a language model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.redaction import redact
from atomthink_plugin.tasks.capability.behaviours import Behaviour, vectorizer
from atomthink_plugin.tasks.capability.taxonomy import Taxonomy

NONE: Final = "none"
"""What the language model says where no ability fits."""


@dataclass(frozen=True, slots=True)
class AbilityLabel:
    """What a behaviour is called and which ability it takes; None where the taxonomy has none that fits."""

    name: str
    ability: str | None


class Labeller(Protocol):
    """Maps behaviours to a taxonomy."""

    def label(self, behaviours: Sequence[Behaviour], taxonomy: Taxonomy) -> list[AbilityLabel]:
        """Returns one label for each behaviour.

        Raises:
            AtomThinkError: The labeller cannot do its work.
        """
        ...


class KeywordLabeller:
    """The offline labeller: the ability whose keywords are said most, ties to the likest description."""

    def label(self, behaviours: Sequence[Behaviour], taxonomy: Taxonomy) -> list[AbilityLabel]:
        """Returns labels; a behaviour with no keyword of any ability has none."""
        described = [" ".join((a.name, a.description, *a.keywords)).casefold() for a in taxonomy.abilities]
        told = [" ".join(behaviour.examples) for behaviour in behaviours]
        tfidf = vectorizer(stop_words="english").fit([*described, *told])
        likeness = (tfidf.transform(told) @ tfidf.transform(described).T).toarray()
        return [self._label(b, taxonomy, row) for b, row in zip(behaviours, likeness.tolist(), strict=True)]

    def _label(self, behaviour: Behaviour, taxonomy: Taxonomy, likeness: Sequence[float]) -> AbilityLabel:
        ranks = [
            (_said(behaviour.examples, ability.keywords), like)
            for ability, like in zip(taxonomy.abilities, likeness, strict=True)
        ]
        best = max(range(len(ranks)), key=ranks.__getitem__)
        return AbilityLabel(behaviour.name, taxonomy.abilities[best].name if ranks[best][0] else None)


def _said(texts: Sequence[str], keywords: Sequence[str]) -> float:
    """The words of a text that are keywords, phrases by all of theirs; mean over texts."""
    counts = [sum(len(word.split()) for word in keywords if _holds(text, word.casefold())) for text in texts]
    return sum(counts) / len(counts)


def _holds(text: str, phrase: str) -> bool:
    """Whether a text has a phrase, whole words only; a verb may have an ending."""
    ending = r"(?:s|es|d|ed|ing)?(?!\w)" if phrase[-1].isalpha() and len(phrase) > 1 else r"(?!\w)"
    return re.search(rf"(?<!\w){re.escape(phrase)}{ending}", text) is not None


class _LabelReply(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    ability: str


class LanguageModelLabeller:
    """A language model behind an OpenAI-compatible server; the key is `OPENAI_API_KEY` of the environment.

    Args:
        model: The model's name there.
        base_url: The server; OpenAI's own without.
        progress: Shows how many behaviours are done.
    """

    READINGS: Final = 3

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        progress: Callable[[Sequence[Behaviour]], Iterable[Behaviour]] = lambda behaviours: behaviours,
    ) -> None:
        import openai

        self._model, self._progress = model, progress
        try:
            self._client = openai.OpenAI(base_url=base_url, max_retries=5)
        except openai.OpenAIError:
            raise AtomThinkError(
                "`--labeller llm` needs a key: set OPENAI_API_KEY (to anything for a server of your own)"
            ) from None

    def label(self, behaviours: Sequence[Behaviour], taxonomy: Taxonomy) -> list[AbilityLabel]:
        """Returns labels, one request for each behaviour; a reply that does not fit is asked for anew."""
        return [self._label(behaviour, taxonomy) for behaviour in self._progress(behaviours)]

    def _label(self, behaviour: Behaviour, taxonomy: Taxonomy) -> AbilityLabel:
        messages = [{"role": "user", "content": _instruction(behaviour, taxonomy)}]
        fault = ""
        for _ in range(self.READINGS):
            said = self._ask(messages, taxonomy)
            try:
                reply = _LabelReply.model_validate_json(said)
            except ValidationError as error:
                fault = error.errors()[0]["msg"]
            else:
                if reply.ability in {NONE, *taxonomy.by_name} and reply.name.strip():
                    return AbilityLabel(reply.name.strip(), None if reply.ability == NONE else reply.ability)
                fault = f"{reply.ability!r} is no ability of the list, or the name is empty"
            messages += [
                {"role": "assistant", "content": said},
                {"role": "user", "content": f"That cannot be used ({fault}). Reply with the JSON object only."},
            ]
        raise AtomThinkError(
            f"`--labeller-model {self._model}` gave no usable label for steps such as {behaviour.examples[0]!r}: "
            f"{fault}; name another model, or use `--labeller words`"
        )

    def _ask(self, messages: Sequence[Any], taxonomy: Taxonomy) -> str:
        import openai

        try:
            reply = self._client.chat.completions.create(
                model=self._model, messages=list(messages), temperature=0, response_format=_schema(taxonomy)
            )
        except (openai.OpenAIError, ValueError) as error:
            raise AtomThinkError(f"`--labeller-model {self._model}` at {self._client.base_url}: {error}") from None
        if not isinstance(reply, openai.types.chat.ChatCompletion) or not reply.choices:  # a page, an error as text
            return ""
        message = reply.choices[0].message
        return redact((message.content if message is not None else None) or "")  # servers may leave out either


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
