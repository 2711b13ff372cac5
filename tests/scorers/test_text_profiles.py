"""Each text profile gives what the plain model gives where its authors read it, in a text written here by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path as FilePath
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer

from atomthink_plugin.api import AtomThinkError, QuestionError
from atomthink_plugin.scorers.prm_head import prm_head
from atomthink_plugin.scorers.prm_profile import PairReadOut, Profile, TaggedLayout
from atomthink_plugin.scorers.prm_profiled import ProfiledPrm
from atomthink_plugin.scorers.prm_token import prm_token
from atomthink_plugin.scorers.profile_catalogue import PROFILES, profile_named
from atomthink_plugin.scorers.profile_loaders import load_checkpoint
from tests.scorers.profile_models import (
    QWEN_SYSTEM,
    classifier,
    llama_causal,
    llama_score_head,
    mistral_causal,
    qwen_causal,
    qwen_classes,
    qwen_value_head,
)
from tests.scorers.shared import logits_of, scores
from tests.tiny_models import chain, folder, question

QUESTION = r"How many are {2} and $\frac{1}{2}$, or 2 + 2?"
STEPS = ["Compute 1 + 1 = 2.", "Compute 2 + 2 = 4, which is long.", "So it is 4 - 1 = {3}."]
ASKED = question(QUESTION, name="profile")

Text = Callable[[str, Sequence[str]], str | list[str]]


@dataclass(frozen=True)
class Contract:
    """What the authors of a PRM do.

    Attributes:
        build: Makes a tiny model of its class.
        text: The text of a chain up to where its last step is read, or its pieces if they are tokenised one by one.
        end: Text after the last reading position, in one pass over the whole chain.
        special: Whether the tokenizer adds its special tokens.
        read: The score from the logits at a position.
        tag: A step that contains this cannot be read.
        head: Name and outputs of a classifier that transformers calls otherwise.
        lines: What separates lines that are steps of their own.
    """

    build: Callable[[FilePath], FilePath]
    text: Text
    read: Callable[[torch.Tensor, Any], torch.Tensor]
    special: bool = False
    end: str = ""
    tag: str | None = None
    head: tuple[str, int] | None = None
    lines: str | None = field(default=None)


def _id(words: Any, text: str) -> int:
    (found,) = words.encode(text, add_special_tokens=False)
    return int(found)


def plus_minus(logits: torch.Tensor, words: Any) -> torch.Tensor:
    return torch.softmax(logits[[_id(words, "+"), _id(words, "-")]], 0)[0]


def spaced_plus_minus(logits: torch.Tensor, words: Any) -> torch.Tensor:
    return torch.softmax(logits[[_id(words, " +"), _id(words, " -")]], 0)[0]


def second_class(logits: torch.Tensor, words: Any) -> torch.Tensor:
    return torch.softmax(logits, 0)[1]


def difference(logits: torch.Tensor, words: Any) -> torch.Tensor:
    wrong, right = torch.softmax(logits, 0)
    return (right - wrong + 1) / 2


def qwen_chat(asked: str, steps: Sequence[str]) -> str:
    head = f"<|im_start|>system\n{QWEN_SYSTEM}<|im_end|>\n<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"
    return head + "".join(f"{step}<extra_0>" for step in steps)


def llama_turns(asked: str, steps: Sequence[str]) -> str:
    user, reply = (f"<|start_header_id|>{role}<|end_header_id|>\n\n" for role in ("user", "assistant"))
    texts = [f"{asked} {steps[0]}", *steps[1:]]
    return "<|begin_of_text|>" + "+<|eot_id|>".join(f"{user}{text}<|eot_id|>{reply}" for text in texts)


def shepherd(asked: str, steps: Sequence[str]) -> str:
    return f"{asked} " + "\n".join(f"Step {k}: {step} ки" for k, step in enumerate(steps, 1))


def psa(asked: str, steps: Sequence[str]) -> str:
    return f"{asked} " + "".join(f"{step} \n\n\n\n\n" for step in steps)


def versa(asked: str, steps: Sequence[str]) -> str:
    return f"{asked} \n\n" + "".join(f"{step} \n\n\n\n" for step in steps)


def skywork(asked: str, steps: Sequence[str]) -> list[str]:
    return [f"{asked}\n", *(piece for step in steps for piece in (step, "\n"))]


def pure(asked: str, steps: Sequence[str]) -> list[str]:
    return [asked, *(piece for step in steps for piece in (step, "\n"))]


def reasoneval(asked: str, steps: Sequence[str]) -> list[str]:
    return [f"<|begin_of_text|>Question:\n{asked}\nAnswer:\nLet's think step by step.\n", *steps]


QWEN = Contract(qwen_classes, qwen_chat, second_class, end="<|im_end|>\n", tag="<extra_0>")
RLHFLOW = Contract(llama_causal, llama_turns, plus_minus, end="+<|eot_id|>")

CONTRACTS = {
    "qwen2_5_math_prm": QWEN,
    "qwen2_5_math_prm800k": QWEN,
    "reasonflux_prm": QWEN,  # no system turn is sent: the template writes this one by itself
    "rlhflow_mistral": RLHFLOW,
    "rlhflow_deepseek": RLHFLOW,
    "math_shepherd": Contract(mistral_causal, shepherd, plus_minus, special=True, tag=" ки"),
    "math_psa": Contract(qwen_causal, psa, spaced_plus_minus, tag=" \n\n\n\n\n"),
    "versaprm": Contract(llama_causal, versa, plus_minus, special=True, tag=" \n\n\n\n"),
    "qwen_prm800k": Contract(qwen_causal, versa, plus_minus, tag=" \n\n\n\n"),
    "skywork_o1_open_prm": Contract(
        qwen_value_head, skywork, lambda logits, _: torch.sigmoid(logits[0]), head=("v_head.summary", 1), lines="\n"
    ),
    "pure_prm": Contract(qwen_classes, pure, difference),
    "reasoneval_34b": Contract(
        llama_score_head, reasoneval, lambda logits, _: torch.softmax(logits, 0)[1:].sum(), head=("score_head", 3)
    ),
}


def fitted(name: str) -> Profile:
    """The profile with the ids of the tiny tokenizer in place of the published ones."""
    found = profile_named(name).model
    assert isinstance(found, Profile)
    words = words_of(name)
    return found.model_copy(update={"ids": {text: _id(words, text) for text in found.ids}})


@cache
def words_of(name: str) -> Any:
    return AutoTokenizer.from_pretrained(folder(CONTRACTS[name].build))


@cache
def model_of(name: str) -> Any:
    """The plain model, loaded without anything of ours."""
    contract = CONTRACTS[name]
    if contract.head is not None:
        return classifier(folder(contract.build), *contract.head)
    kind = AutoModelForTokenClassification if contract.build is qwen_classes else AutoModelForCausalLM
    return kind.from_pretrained(folder(contract.build)).eval()


def scorer(name: str, profile: Profile | None = None, **arguments: Any) -> ProfiledPrm:
    profile = profile or fitted(name)
    checkpoint = load_checkpoint(
        str(folder(CONTRACTS[name].build)),
        profile,
        revision=None,
        dtype="float32",
        device="cpu",
        trust_remote_code=False,
        argument="prm",
    )
    return ProfiledPrm(checkpoint, name, "digest", profile, **arguments)


@cache
def ours(name: str) -> ProfiledPrm:
    made = scorer(name)
    made.check()
    return made


def encoded(name: str, text: str | list[str]) -> list[int]:
    words, special = words_of(name), CONTRACTS[name].special
    if isinstance(text, str):
        return list(words.encode(text, add_special_tokens=special))
    return [token for piece in text for token in words.encode(piece, add_special_tokens=False)]


def paths(*steps: str) -> list[Any]:
    return [chain(ASKED, *steps[:depth]) for depth in range(1, len(steps) + 1)]


def expected(name: str) -> tuple[list[float], list[list[float]]]:
    """The scores of all steps from one pass over the whole chain, and those one token before and after."""
    contract = CONTRACTS[name]
    whole = contract.text(QUESTION, STEPS)
    ids = [*encoded(name, whole + contract.end if isinstance(whole, str) else whole), 5]
    ends = [len(encoded(name, contract.text(QUESTION, STEPS[:depth]))) - 1 for depth in (1, 2, 3)]
    logits = logits_of(model_of(name), ids)
    rows = [[contract.read(logits[end + shift], words_of(name)).item() for end in ends] for shift in (0, -1, 1)]
    return rows[0], rows[1:]


def test_every_text_profile_has_a_contract() -> None:
    profiles = (profile_named(name) for name in PROFILES)
    text = {found.name for found in profiles if isinstance(found.model, Profile) and found.model.images.use == "none"}
    assert text <= CONTRACTS.keys()


@pytest.mark.parametrize("name", CONTRACTS)
@pytest.mark.parametrize("depth", [1, 3])
def test_the_ids_are_those_of_the_authors_text(name: str, depth: int) -> None:
    encoding = ours(name).encode(chain(ASKED, *STEPS[:depth])).encoding
    assert list(encoding.ids) == encoded(name, CONTRACTS[name].text(QUESTION, STEPS[:depth]))
    opening = ours(name).encode(chain(ASKED, "Another.")).encoding
    assert 5 < encoding.question == opening.question
    assert encoding.ids[: encoding.question] == opening.ids[: encoding.question]


@pytest.mark.parametrize("name", CONTRACTS)
def test_scores_are_those_at_the_authors_position_of_one_pass(name: str) -> None:
    """One token before or after, the plain model says something else."""
    right, shifted = expected(name)
    assert scores(ours(name), paths(*STEPS)) == pytest.approx(right, abs=1e-5)
    assert scores(scorer(name, cache_gib=0, batch_size=1), paths(*STEPS)) == pytest.approx(right, abs=1e-5)
    for wrong in shifted:
        assert max(abs(a - b) for a, b in zip(right, wrong, strict=True)) > 1e-3


@pytest.mark.parametrize("name", [name for name in CONTRACTS if name not in ("pure_prm", "skywork_o1_open_prm")])
def test_good_and_bad_are_not_mixed_up(name: str) -> None:
    profile = fitted(name)
    if isinstance(profile.read, PairReadOut):
        other = PairReadOut(kind="pair", good=profile.read.bad, bad=profile.read.good)
        swapped = profile.model_copy(update={"read": other})
    else:
        left = tuple(set(range(profile.read.count)) - set(profile.read.good))  # type: ignore[union-attr]
        swapped = profile.model_copy(update={"read": profile.read.model_copy(update={"good": left})})
    values, others = (scores(made, paths(*STEPS)) for made in (ours(name), scorer(name, swapped)))
    assert [a + b for a, b in zip(values, others, strict=True)] == pytest.approx([1, 1, 1], abs=1e-5)


@pytest.mark.parametrize("name", [name for name, contract in CONTRACTS.items() if contract.tag])
def test_a_tag_inside_a_step_fails_the_question(name: str) -> None:
    tag = CONTRACTS[name].tag
    with pytest.raises(QuestionError, match="tag"):
        ours(name).encode(chain(ASKED, f"Compute 1{tag} + 1."))


@pytest.mark.parametrize("name", [name for name, contract in CONTRACTS.items() if contract.lines])
def test_a_step_of_several_lines_has_the_score_of_its_last_line(name: str) -> None:
    broken = CONTRACTS[name].lines
    joined = chain(ASKED, STEPS[0], f"{STEPS[1]}{broken}{STEPS[2]}")
    assert scores(ours(name), [joined]) == scores(ours(name), [chain(ASKED, *STEPS)])


def test_line_breaks_stay_in_a_step_where_tags_are_found_by_position() -> None:
    broken = [STEPS[0], f"{STEPS[1]}\n{STEPS[2]}"]
    read = ours("pure_prm").encode(chain(ASKED, *broken)).encoding.ids
    assert list(read) == encoded("pure_prm", pure(QUESTION, broken))


@pytest.mark.parametrize("name", CONTRACTS)
def test_control_tokens_in_the_text_are_ordinary_characters(name: str) -> None:
    special = words_of(name).eos_token
    ids = ours(name).encode(chain(question(f"Is {special} one?"), f"So {special}.")).encoding
    plain = ours(name).encode(chain(question("Is it one?"), "So.")).encoding
    ends = words_of(name).eos_token_id
    assert ids.ids.count(ends) == plain.ids.count(ends)


@pytest.mark.parametrize("name", [name for name in CONTRACTS if profile_named(name).model.ids])
def test_a_tokenizer_with_other_ids_is_refused(name: str) -> None:
    """All ids are named that differ, those expected and those found."""
    published = profile_named(name).model.ids
    own = fitted(name).ids
    with pytest.raises(AtomThinkError) as error:
        scorer(name, profile_named(name).model)  # type: ignore[arg-type]
    for text, token in published.items():
        assert repr(text) in str(error.value)
        assert str(token) in str(error.value)
        assert str(own[text]) in str(error.value)


@pytest.mark.parametrize(("name", "reference"), [("qwen2_5_math_prm", prm_head), ("math_psa", prm_token)])
def test_profiles_agree_with_the_scorers_of_the_same_layout(name: str, reference: Any) -> None:
    other = reference(str(folder(CONTRACTS[name].build)), device="cpu")
    for path in paths(*STEPS):
        assert ours(name).encode(path).encoding.ids == other.encode(path).encoding.ids
    assert scores(ours(name), paths(*STEPS)) == pytest.approx(scores(other, paths(*STEPS)), abs=1e-6)


def test_a_step_that_has_its_own_label_gets_no_second_one() -> None:
    labelled = [f"Step {k}: {step}" for k, step in enumerate(STEPS, 1)]
    read = [ours("math_shepherd").encode(chain(ASKED, *steps)).encoding.ids for steps in (STEPS, labelled)]
    assert read[0] == read[1]


def test_a_tag_without_a_published_id_is_the_token_that_its_text_becomes() -> None:
    """A SentencePiece vocabulary has it twice, after a space and inside a word."""
    made = scorer("math_shepherd", fitted("math_shepherd").model_copy(update={"ids": {}}))
    assert made.encode(paths(*STEPS)[2]).encoding.ids == ours("math_shepherd").encode(paths(*STEPS)[2]).encoding.ids


def test_the_profile_and_its_digest_are_in_the_identity() -> None:
    assert ours("math_psa").identity.endswith("math_psa digest")
    assert isinstance(ours("math_psa").profile.layout, TaggedLayout)


def test_a_checkpoint_with_another_number_of_outputs_is_refused() -> None:
    with pytest.raises(AtomThinkError, match="2 outputs"):
        scorer("pure_prm", fitted("pure_prm").model_copy(update={"read": fitted("reasoneval_34b").read}))
