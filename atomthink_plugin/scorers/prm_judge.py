"""Generative process reward models: a critique is sampled, then the probability of its verdict is read."""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from atomthink_plugin.api import AtomThinkError, Message, Path, Policy, Prompt, Question, Sampling, Score
from atomthink_plugin.runtime.event_loop import run
from atomthink_plugin.scorers.critic_choice import critic_profile
from atomthink_plugin.scorers.critic_profile import CriticProfile
from atomthink_plugin.scorers.question_judge import ChainJudge, QuestionJudge, UnreadReplies

log = logging.getLogger(__name__)

_TRIED: Final = (Message("user", ("Is 1 + 1 = 2 correct?",)),)

_REMEMBERED: Final = 256
"""Questions whose replies are remembered where a scorer is used without `for_question`."""


class PrmJudge:
    """A generative process reward model.

    Args:
        profile: How the critic is asked and read.
        critic: The policy that is asked.
        seed: Seed of the critiques.
    """

    def __init__(self, profile: CriticProfile, critic: Policy, seed: int = 0) -> None:
        read = profile.model_dump_json(include={"critique", "images"})
        digest = hashlib.blake2b(read.encode(), digest_size=6).hexdigest()
        self.identity = f"critic {digest} seed {seed} of {critic.identity}"
        self.critic = critic
        self.profile = profile
        self._seed = seed
        self._tally = UnreadReplies()
        self._judges: OrderedDict[str, QuestionJudge] = OrderedDict()

    def for_question(self, critic: Policy) -> QuestionJudge:
        """Returns the scorer of one question, which asks `critic`."""
        kind = ChainJudge if self.profile.critique.scope == "chain" else QuestionJudge
        return kind(self.identity, self.profile, critic, self._seed, self._tally)

    async def score(self, path: Path) -> Score:
        """Scores the last step of `path`, see `QuestionJudge.score`."""
        return await self._judge(path.question).score(path)

    def check(self) -> None:
        """Asks the critic for one verdict, before the first question.

        Raises:
            AtomThinkError: It cannot be asked.
        """
        about = self.profile.critique
        begun = about.ask_as == "reply" and (about.begin or about.ask)
        prompt = Prompt(_TRIED, ("So",) if begun else ())
        try:
            proposal = run(self.critic.propose(prompt, 1, Sampling(max_tokens=1, watch=about.verdict)))
        except AtomThinkError as error:
            advice = "; a profile with `ask_as: user` and without `begin` continues no reply" if begun else ""
            raise AtomThinkError(
                f"the critic {self.critic.identity} cannot be asked for a verdict: {error}{advice}"
            ) from error
        if proposal.steps and not proposal.steps[0].watched:
            log.info("%s may give no log-probabilities: its verdicts are then read as text", self.critic.identity)

    def summary(self) -> str:
        """Returns how many verdicts could not be read, an empty text if all could."""
        tally, rule = self._tally, self.profile.critique.failure
        unread = f"{tally.unread} of {tally.verdicts} verdicts could not be read and count as {rule:g}"
        facts = f"{tally.facts} descriptions of questions held no JSON object"
        return "; ".join([unread] * bool(tally.unread) + [facts] * bool(tally.facts))

    def _judge(self, question: Question) -> QuestionJudge:
        """Returns the question's judge. The least recently used ones are forgotten."""
        if question.key not in self._judges:
            self._judges[question.key] = self.for_question(self.critic)
        self._judges.move_to_end(question.key)
        while len(self._judges) > _REMEMBERED:
            self._judges.popitem(last=False)
        return self._judges[question.key]


class ChainPrmJudge(PrmJudge):
    """A generative process reward model that reads finished chains."""

    async def score_chain(self, path: Path) -> Sequence[Score]:
        """Scores all steps of `path`, see `ChainJudge.score_chain`."""
        judge = self._judge(path.question)
        assert isinstance(judge, ChainJudge)
        return await judge.score_chain(path)


def prm_judge(
    prm: str,
    critic: Policy,
    *,
    profile: str | None = None,
    samples: PositiveInt | None = None,
    temperature: NonNegativeFloat | None = None,
    max_tokens: NonNegativeInt | None = None,
    seed: int = 0,
) -> PrmJudge:
    """Asks a generative PRM, or any model as a critic, for a critique and reads the probability of its verdict.

    The critic is a policy: `prm_policy=transformers`, `openai` or `vllm`, with that policy's own arguments after
    `prm_`.

    Args:
        prm: The critic's checkpoint, or the name of a served model.
        critic: The critic's policy.
        profile: Name of a profile, or a YAML file. `prompted_critic` asks any model. By default it is recognised by
            the name of the checkpoint.
        samples: Critiques of each step, whose verdicts are averaged. By default that of the profile.
        temperature: Sampling temperature of critiques. By default that of the profile.
        max_tokens: Token limit of a critique. By default that of the profile.
        seed: Seed of the critiques.

    Raises:
        AtomThinkError: There is no such profile, or it cannot be used with these arguments.
    """
    given = {"samples": samples, "temperature": temperature, "max_tokens": max_tokens}
    chosen = critic_profile(prm, profile, {name: value for name, value in given.items() if value is not None})
    kind = ChainPrmJudge if chosen.critique.scope == "chain" else PrmJudge
    scorer = kind(chosen, critic, seed)
    scorer.check()
    return scorer
