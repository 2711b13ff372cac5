"""A PRM reads what a format writes: its own joints and tags, and one mark after each unit."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch

from atomthink_plugin.api import Format, Path, Prompt, Step
from atomthink_plugin.formats.stages import Stages
from atomthink_plugin.inference.encoding import ChatText, Encoder
from atomthink_plugin.scorers.prm_head import prm_head
from atomthink_plugin.scorers.prm_likelihood import LikelihoodPrm
from atomthink_plugin.scorers.prm_token import ChatLayout, TokenPrm, prm_token
from atomthink_plugin.scorers.served_prm import prm_servers
from atomthink_plugin.scorers.served_token import ServedChatPrm
from atomthink_plugin.testing import ScriptedPolicy
from tests.other_formats import LINES, LLAVA_COT, STAGES, InQuestion, Lines, Numbered, Tagged
from tests.scorers.shared import ASKED, logits_of, scores
from tests.tiny_models import causal_prm, chain, folder, head_prm, loaded, qwen
from tests.trees import question_tree

TAG, GOOD, BAD = "<|endoftext|>", "+", "-"
# The format, its steps, and the reply with a mark for the PRM's tag, by hand.
REPLIES: list[Any] = [
    pytest.param(Lines(), LINES, ["a is 1.\n@", "b is 2.\n\nAs it was.\n@", "so 3.\n@"], id="lines"),
    pytest.param(
        Tagged(), STAGES, ["<A> a is 1. </A>\n@", "<B> b is 2.\n\nAs it was. </B>\n@", "<C> so 3. </C>\n@"], id="stages"
    ),
    pytest.param(Stages(), LLAVA_COT, [f"{text}\n\n@" for text in LLAVA_COT], id="llava-cot"),
    pytest.param(
        Numbered(), LINES, ["(1) a is 1.\n@", "(2) b is 2.\n\nAs it was.\n@", "(3) so 3.\n@"], id="text-between"
    ),
]


def question_ids(form: Format, path: Path) -> tuple[list[int], dict[str, torch.Tensor]]:
    prompt = form.render(Path(path.question))
    encoding = Encoder(loaded(qwen)).encode(Prompt(prompt.messages))
    return encoding.tokens["input_ids"][0].tolist(), encoding.media


def marked(*pieces: str) -> list[int]:
    """Ids of the pieces, with the PRM's tag for `@`."""
    words = loaded(qwen).tokenizer
    tag = words.convert_tokens_to_ids(TAG)
    found: list[int] = []
    for piece in pieces:
        found += words.encode(piece.removesuffix("@"), add_special_tokens=False)
        found += [tag] if piece.endswith("@") else []
    return found


def token_prm(form: Format) -> TokenPrm:
    tag, good, bad = loaded(qwen).tokenizer.convert_tokens_to_ids([TAG, GOOD, BAD])
    return TokenPrm(loaded(qwen), ChatLayout(Encoder(loaded(qwen)), form, tag), good, bad)


def read_at(ids: list[int], media: dict[str, torch.Tensor], at: int) -> float:
    """The PRM's probability of "good" at position `at` of a row, without anything of ours."""
    kinds = (torch.tensor([ids]) == loaded(qwen).model.config.image_token_id).long()
    logits = logits_of(loaded(qwen).model, ids, mm_token_type_ids=kinds, **media)
    pair = loaded(qwen).tokenizer.convert_tokens_to_ids([GOOD, BAD])
    return float(torch.softmax(logits[at, pair], 0)[0])


@pytest.mark.parametrize(("form", "steps", "replies"), REPLIES)
def test_each_unit_is_read_at_the_mark_after_its_own_joint(
    form: Format, steps: tuple[str, ...], replies: list[str]
) -> None:
    """One position earlier, or with one mark too few, the model says something else."""
    prm = token_prm(form)
    for depth in range(1, len(steps) + 1):
        path = chain(ASKED, *steps[:depth])
        question, media = question_ids(form, path)
        ids = question + marked(*replies[:depth])
        assert prm.encode(path).encoding.tokens["input_ids"][0].tolist() == ids
        (score,) = scores(prm, [path])
        assert score == pytest.approx(read_at(ids, media, len(ids) - 1), abs=1e-4)
        assert abs(score - read_at(ids, media, len(ids) - 2)) > 1e-3
        if depth > 1:
            fewer = question + marked(replies[0].removesuffix("@"), *replies[1:depth])
            assert abs(score - read_at(fewer, media, len(fewer) - 1)) > 1e-4


@pytest.mark.parametrize(("form", "steps", "replies"), REPLIES)
def test_the_tokens_of_a_path_begin_those_of_its_extensions(
    form: Format, steps: tuple[str, ...], replies: list[str]
) -> None:
    rows = [token_prm(form).encode(chain(ASKED, *steps[:depth])) for depth in (1, 2, 3)]
    first, second, third = (row.encoding.tokens["input_ids"][0].tolist() for row in rows)
    assert third[: len(second)] == second
    assert second[: len(first)] == first


@pytest.mark.parametrize(("form", "steps", "replies"), REPLIES)
def test_a_likelihood_is_that_of_the_unit_and_its_joint(
    form: Format, steps: tuple[str, ...], replies: list[str]
) -> None:
    prm = LikelihoodPrm(loaded(qwen), form, scale=0.02, bias=1.5)
    words = loaded(qwen).tokenizer
    for depth in (1, 2, 3):
        reading = prm.encode(chain(ASKED, *steps[:depth]))
        joint = form.unit(Path(ASKED)).joint  # type: ignore[union-attr]
        assert words.decode(reading.targets) == steps[depth - 1] + joint
        row = reading.encoding.tokens["input_ids"][0].tolist()
        assert row[reading.first + 1 : reading.last + 2] == list(reading.targets)
        question, _ = question_ids(form, chain(ASKED, *steps[:depth]))
        assert words.decode(row[len(question) :]) == "".join(reply.removesuffix("@") for reply in replies[:depth])
        last = prm.encode(chain(ASKED, *steps[:depth], answer="3"))
        assert words.decode(last.targets) == steps[depth - 1] + words.decode(prm._end)


@pytest.mark.parametrize(("form", "steps", "replies"), REPLIES)
def test_a_served_prm_is_sent_the_same_reply(form: Format, steps: tuple[str, ...], replies: list[str]) -> None:
    text = ChatText(loaded(qwen).processor, loaded(qwen).tokenizer)  # type: ignore[arg-type]
    servers = prm_servers("http://127.0.0.1:9/v1", 1, 1.0, 0)
    prm = ServedChatPrm("served", "prm", servers, 0, text, form, TAG, 1, 2)
    for depth in (1, 2, 3):
        *asked, reply = prm.request(chain(ASKED, *steps[:depth])).body["messages"]
        assert [turn["role"] for turn in asked] == ["user"]
        assert reply == {"role": "assistant", "content": "".join(replies[:depth]).replace("@", TAG)}


def test_stages_of_a_search_are_scored_with_one_mark_each() -> None:
    """As the tree shapes them: the policy writes neither the start tag nor the end tag of a stage."""

    async def grown() -> list[tuple[Path, float]]:
        replies = {"SUMMARY": "I count.", "CAPTION": "a is 1.\n\nb is 2.", "REASONING": "1 + 2 = 3.", "CONCLUSION": "3"}
        policy = ScriptedPolicy(lambda prompt: {replies[prompt.prefix.rpartition("<")[2].rstrip(">")]: 1.0})
        tree = question_tree(policy, token_prm(Stages()), asked=ASKED, format=Stages())
        found, path = [], tree.root
        while not path.final:
            ((path,),) = await tree.expand([path], 1)
            found.append((path, await tree.score(path)))
        return found

    scored = asyncio.run(grown())
    assert [path.steps[-1].text for path, _ in scored] == list(LLAVA_COT)
    question, media = question_ids(Stages(), Path(ASKED))
    for depth, (_, score) in enumerate(scored, start=1):
        ids = question + marked(*(f"{text}\n\n@" for text in LLAVA_COT[:depth]))
        assert score == pytest.approx(read_at(ids, media, len(ids) - 1), abs=1e-4)


def test_steps_that_the_format_keeps_in_the_question_are_not_marked() -> None:
    question, _ = question_ids(InQuestion(), Path(ASKED))
    row = token_prm(InQuestion()).encode(chain(ASKED, *LINES)).encoding.tokens["input_ids"][0].tolist()
    assert row == question + marked("so 3.\n@")


def test_ids_that_another_model_sampled_are_not_the_prms() -> None:
    """A format may hand over sampled steps with their ids, which are those of the policy's tokenizer."""
    texts = chain(ASKED, *LINES)
    sampled = Path(ASKED)
    for line in LINES:
        sampled = sampled.extend(Step(line, (5, 6, 7), -1.0))
    prm = token_prm(Numbered())
    expected, found = (prm.encode(path).encoding.tokens["input_ids"][0].tolist() for path in (texts, sampled))
    assert found == expected


def everything() -> tuple[Path, Path]:
    """A path on which a step was written and one was asked for, below a further root; and the same texts, sampled."""
    mixed = Path(ASKED, name="root-1").extend(Step("Step 1: a.", logprob=0.0, role=""))
    mixed = mixed.extend(Step("Wait, is that so?", (5,), -0.5, use="critic#1", role="judge")).extend(Step("Step 2: b."))
    return mixed, chain(ASKED, *(step.text for step in mixed.steps))


@pytest.mark.parametrize(
    "load",
    [
        lambda: token_prm(Lines()),
        lambda: prm_token(str(folder(causal_prm)), device="cpu"),
        lambda: prm_head(str(folder(head_prm)), device="cpu"),
        lambda: LikelihoodPrm(loaded(qwen), Lines(), 0.02, 1.5),
    ],
    ids=["token", "token-text", "head-text", "likelihood"],
)
def test_all_steps_of_a_path_are_read_whoever_wrote_them(load: Any) -> None:
    prm = load()
    mixed, sampled = everything()
    first, second = scores(prm, [mixed, sampled])
    assert first == second
    shorter = chain(ASKED, *(step.text for step in mixed.steps if not step.use))
    assert prm.encode(mixed).encoding.length > prm.encode(shorter).encoding.length
