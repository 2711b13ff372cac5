"""Data in other forms than atomic steps: it is what formats and searches ask for, and it can be trained on."""

from __future__ import annotations

import asyncio
import random
import re
from functools import partial
from itertools import islice
from pathlib import Path as FilePath
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from atomthink_plugin.api import Format, Path, Prompt, Search, Step
from atomthink_plugin.formats.continuation import Continue
from atomthink_plugin.formats.stages import STAGES, Stages
from atomthink_plugin.formats.steps import body
from atomthink_plugin.formats.thoughts import Thoughts
from atomthink_plugin.inference.checkpoints import load_multimodal
from atomthink_plugin.inference.encoding import Encoder
from atomthink_plugin.plugins.registry import registry
from atomthink_plugin.searches.judge_best_of_n import judge_best_of_n
from atomthink_plugin.searches.reason_summarise import reason_summarise
from atomthink_plugin.searches.stage_beam import stage_beam
from atomthink_plugin.searches.stepwise_bon import stepwise_bon
from atomthink_plugin.searches.zero_shot_cot import zero_shot_cot
from atomthink_plugin.tasks.demo.questions import DemoQuestion, calculate, held_out
from atomthink_plugin.training.records import Chain, engine_question
from atomthink_plugin.training.tiny.figures import Figures
from atomthink_plugin.training.tiny.files import MAKERS, write
from atomthink_plugin.training.tiny.forms import staged
from atomthink_plugin.training.tiny.model import load, make_extended
from atomthink_plugin.training.tiny.requests import fixed_texts
from atomthink_plugin.training.tiny.stages import KINDS
from atomthink_plugin.training.tiny.tokenizer import FORMAT_TEXTS, extend
from atomthink_plugin.training.train.row_encoder import RowEncoder
from atomthink_plugin.training.train.tokens import ChainRows, closing_id
from tests.searches.scripted_replies import Replies, ScriptedReplies
from tests.training.train.demo_data import MODEL
from tests.trees import question_tree

FORMS = ("stages", "thoughts", "arrow")
REQUESTS = ("zero_shot", "summaries", "duels", "checks", "ballots")
FIGURES = Figures(FilePath(), 200, seed=8)


def records(name: str, count: int) -> list[dict[str, Any]]:
    return list(islice(MAKERS[name](FIGURES, random.Random(f"{name} 1")), count))


def prompts(search: Search, form: Format, asked: str, replies: Replies) -> list[Prompt]:
    policy = ScriptedReplies(replies)
    tree = question_tree(policy, format=form, asked=engine_question("q", asked, ()), judge=policy, summary=policy)
    asyncio.run(search(tree))
    return policy.asked


def _same(text: str, prompt: Prompt, index: int, seed: int) -> str:
    return text


def text_of(prompt: Prompt) -> str:
    return "".join(part for turn in prompt.messages for part in turn.parts if isinstance(part, str))


@pytest.mark.parametrize("name", FORMS)
def test_a_reply_states_the_answer_in_its_last_unit_only(name: str) -> None:
    form = registry().formats[name]()
    for record in records(name, 40):
        path = Path(engine_question("q", record["question"], ()))
        for text in record["steps"]:
            unit = form.unit(path)
            assert unit is not None
            assert unit.check(text, [step.text for step in path.steps]) is None
            assert not path.final
            path = path.extend(Step(text), form.answer(text))
        assert path.answer == record["answer"]


@pytest.mark.parametrize("name", FORMS)
def test_no_question_is_held_out(name: str) -> None:
    asked = {text for question in held_out(400) for text in (question.text, staged(question)["CAPTION"])}
    for record in records(name, 300):
        readings = ", ".join(re.findall(r"\w+(?: width| height)? = \d", record["steps"][0])) + "."
        assert not (record["question"] in asked and readings in asked)


def test_the_stages_of_a_question() -> None:
    question = next(one for one in held_out(50) if one.is_perimeter and len(one.operands) == 5)
    sides, values = question.operands[:-1], question.figure.values
    stages = staged(question)
    assert re.findall(r"\d+", stages["SUMMARY"]) == [str(len(sides)), str(stages["REASONING"].count("Compute"))]
    assert stages["CAPTION"] == ", ".join(f"{name} = {values[name]}" for name in sides) + "."
    assert stages["REASONING"].count("Compute") == 4
    assert stages["REASONING"].endswith(f" x {question.operands[-1]} = {question.answer}.")


@pytest.mark.parametrize("name", [*FORMS, *REQUESTS])
def test_the_prompt_of_a_row_is_that_of_its_format(name: str) -> None:
    checkpoint = load_multimodal(MODEL, device="cpu")
    rows, encoder = ChainRows(RowEncoder(checkpoint), closing_id(checkpoint)), Encoder(checkpoint)
    for at, record in enumerate(records(name, 5)):
        chain = Chain.model_validate({"id": str(at), **record, "images": ()})
        question = engine_question("q", chain.question, ())
        assert chain.format is not None
        ((row,), *_) = rows.parts(chain, chain.format, question)
        prompt = encoder.encode(rows.check_format(chain.format).render(Path(question)))
        ids = row.encoding.tokens["input_ids"][0].tolist()
        assert ids[: min(row.labels)] == prompt.tokens["input_ids"][0].tolist()


def test_a_summary_is_asked_for_as_the_search_asks_for_it() -> None:
    for record in records("summaries", 5):
        shown = re.search(r"QUESTION: (.*)\n\nREASON PROCESS:\n<thoughts>\n((?:.|\n)*)\n</th", record["question"])
        assert shown is not None
        asked, written = shown.groups()
        seen = prompts(reason_summarise(), Thoughts(), asked, partial(_same, f"{written} </thoughts>"))
        assert record["question"] in map(text_of, seen)


def test_verdicts_are_asked_for_as_the_search_asks_for_them() -> None:
    judged = set()
    for record in records("duels", 12):
        asked, shown, first, second = re.findall(
            r"Question: (.*)\n\n(?:Hint about the question: ((?:.|\n)*)\n\n)?"
            r"Response 1: ((?:.|\n)*)\n\nResponse 2: ((?:.|\n)*)\n\n.*Reply",
            record["question"],
        )[0]
        caption, _, reasoning = shown.partition("\n\n")
        given = ["(a) + (b)", *filter(None, (caption, reasoning))]
        judged.add(len(given))

        def reply(prompt: Prompt, index: int, seed: int, given: Any = given, both: Any = (first, second)) -> str:
            if not prompt.begun:
                return "correct"
            stage = STAGES.index(str(prompt.begun[-1]).strip("<>"))
            return f"{given[stage] if stage < len(given) else both[index % 2]} </{STAGES[stage]}>"

        assert record["question"] in map(text_of, prompts(stage_beam(candidates=2), Stages(), asked, reply))
        assert first != second
    assert judged == {1, 2, 3}


def test_ballots_are_asked_for_as_the_searches_ask_for_them() -> None:
    kinds = set()
    for record in records("ballots", 20):
        asked, given, shown = re.findall(
            r"Question: (.*)(?:\n\nSteps so far:\n((?:.|\n)*?))?\n\nCandidate 1:\n((?:.|\n)*)\n\nDecide",
            record["question"],
        )[0]
        candidates = [text.split("\n\n") for text in re.split(r"\n\nCandidate \d+:\n", shown)]
        if any(len({body(step) for step in steps}) < len(steps) for steps in candidates):
            continue  # a chain that repeats itself is none
        before = given.split("\n\n") if given else []
        chains = [[*before, *steps] for steps in candidates]
        kinds.add(whole := len(candidates[0]) > 1)
        search = judge_best_of_n(n=len(chains)) if whole else stepwise_bon(candidates=len(chains))
        assert record["question"] in map(text_of, prompts(search, Continue(), asked, partial(_next_of, chains)))
        number = int(record["steps"][0].removesuffix(".").rpartition(" ")[2])
        assert whole or record["steps"][0].startswith(body(candidates[number - 1][0]))
    assert len(kinds) == 2


def _next_of(chains: list[list[str]], prompt: Prompt, index: int, seed: int) -> str:
    if "judge" in text_of(prompt):
        return "1"
    chain = chains[index % len(chains)]
    return chain[len(prompt.begun)] if len(prompt.begun) < len(chain) else "To sum up, the final answer is: 1."


def test_a_zero_shot_reply_has_both_prompts_of_the_search() -> None:
    for record in records("zero_shot", 5):
        (reply,) = record["steps"]
        rationale = re.findall(r"step\.( .*)\n\nTherefore", reply)[0]
        first, second = prompts(zero_shot_cot(), Continue(), record["question"], partial(_same, rationale))
        assert text_of(first) == text_of(second) == record["question"]
        assert reply.startswith(first.prefix + rationale)
        assert reply.startswith(second.prefix)


def test_a_check_recomputes_every_calculation() -> None:
    verdicts = set()
    for record in records("checks", 40):
        *calculations, verdict = re.findall(r"Compute (\d+) (.) (\d+) = (\d+)\.|(\w+)$", record["steps"][0])
        stated = re.findall(r"Compute (\d+) (.) (\d+) = (\d+)\.", record["question"])
        for left, operator, right, result, _ in calculations:
            assert int(result) == calculate(operator, int(left), int(right))
        agree = [one[:4] for one in calculations] == stated
        assert verdict[4] == ("correct" if agree else "incorrect")
        verdicts.add(verdict[4])
        assert record["images"] == []
    assert len(verdicts) == 2


def test_fixed_texts_become_single_tokens_and_change_no_other() -> None:
    known = PreTrainedTokenizerFast.from_pretrained(MODEL)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(MODEL)
    before = extend(tokenizer, (*FORMAT_TEXTS, *fixed_texts()))
    assert all(len(pieces) > 1 for pieces in before)
    for name in (*FORMS, *REQUESTS):
        (record,) = records(name, 1)
        for text in (record["question"], *record["steps"]):
            ids = tokenizer.encode(text, add_special_tokens=False)
            assert tokenizer.decode(ids) == text
            assert len(ids) < 150 or name == "ballots"
    (solving,) = (DemoQuestion.from_json(record["demo"]) for record in records("asking", 1))
    assert tokenizer.encode("\n\n".join(solving.steps)) == known.encode("\n\n".join(solving.steps))


def test_an_extended_model_computes_the_same_and_writes_a_complete_checkpoint(tmp_path: FilePath) -> None:
    make_extended(tmp_path / "extended", FilePath(MODEL), FORMAT_TEXTS)
    before, after = load(FilePath(MODEL)), load(tmp_path / "extended")
    ids = torch.tensor([[300, 301, 302]])
    with torch.inference_mode():
        first, second = before(input_ids=ids).logits, after(input_ids=ids).logits
    assert torch.allclose(first, second[..., : first.shape[-1]], atol=1e-4)
    assert second.shape[-1] == first.shape[-1] + len(FORMAT_TEXTS)
    checkpoint = load_multimodal(str(tmp_path / "extended"), device="cpu")
    assert checkpoint.model.config.text_config.vocab_size == len(checkpoint.tokenizer)


@pytest.mark.slow
def test_a_training_on_all_forms_at_once(tmp_path: FilePath) -> None:
    figures = Figures(tmp_path / "data", 8, seed=1)
    figures.draw()
    files = [write(figures, name, 6, seed=1) for name in (*FORMS, *REQUESTS, "solving")]
    model, texts = tmp_path / "extended", (*FORMAT_TEXTS, *fixed_texts())
    make_extended(model, FilePath(MODEL), texts)
    recipe = {
        "model_name_or_path": str(model),
        "data": [str(file) for file in files],
        "output_dir": str(tmp_path / "out"),
    }
    recipe |= {"max_steps": 2, "per_device_train_batch_size": 16, "one_row_per_chain": True, "freeze": ["vision_tower"]}
    KINDS["policy"](recipe | {"muon": 0.01, "learning_rate": 1e-3, "bf16": False, "logging_steps": 1})
    assert (tmp_path / "out" / "rejects.jsonl").read_text() == ""
    first, last = load(model), load(tmp_path / "out")
    assert not torch.equal(first.get_input_embeddings().weight, last.get_input_embeddings().weight)
